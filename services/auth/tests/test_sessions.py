import asyncio
import uuid

import pytest
import sqlalchemy as sa
from parley_kit.errors import ParleyError

from .world import PASSWORD, address, refusal

_RACERS = 8


async def test_sign_up_signs_in(client):
    email = address()
    session = await client.sign_up(email)
    assert session.user.email == email
    assert uuid.UUID(session.user.id).version == 7
    assert session.expires_in == 900
    assert await client.me(session.access_token) == session.user


async def test_e_mails_are_one_whatever_their_case(client):
    email = address()
    session = await client.sign_up(email.upper())
    assert session.user.email == email
    assert (await client.sign_in(email.title())).user == session.user
    assert await refusal(client.sign_up(email)) == "EMAIL_TAKEN"


async def test_a_taken_e_mail_changes_nothing(client):
    email = address()
    await client.sign_up(email)
    assert await refusal(client.sign_up(email, "another password")) == "EMAIL_TAKEN"
    assert await refusal(client.sign_in(email, "another password")) == "INVALID_CREDENTIALS"
    await client.sign_in(email)


async def test_of_concurrent_sign_ups_one_wins(client, rows):
    email = address()
    answers = await asyncio.gather(*(client.sign_up(email) for _ in range(_RACERS)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, ParleyError)]
    assert [error.code for error in refused] == ["EMAIL_TAKEN"] * (_RACERS - 1)
    assert await rows("SELECT count(*) FROM auth.users WHERE email = :email", email=email) == [(1,)]


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("", PASSWORD, "email"),
        ("no address", PASSWORD, "email"),
        ("a@b\0.org", PASSWORD, "email"),
        ("ä@example.org", PASSWORD, "email"),
        (f"{'a' * 250}@b.org", PASSWORD, "email"),
        ("a@example.org", "", "password"),
        ("a@example.org", "7 chars", "password"),
        ("a@example.org", "x" * 129, "password"),
    ],
)
async def test_sign_up_names_the_bad_field_and_stores_nothing(client, rows, email, password, field):
    before = await rows("SELECT count(*) FROM auth.users")
    with pytest.raises(ParleyError) as refused:
        await client.sign_up(email, password)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert [error.field for error in refused.value.fields] == [field]
    assert await rows("SELECT count(*) FROM auth.users") == before


async def test_passwords_of_every_script_and_with_nul(client):
    for password in ("pässwörd", "密码密码密码密码", "nul\0nul\0nul", "😀" * 8, "x" * 128):
        email = address()
        await client.sign_up(email, password)
        await client.sign_in(email, password)
        assert await refusal(client.sign_in(email, password[:-1])) == "INVALID_CREDENTIALS"


async def test_sign_in_does_not_tell_an_unknown_e_mail_from_a_wrong_password(client, hashed):
    email = address()
    await client.sign_up(email)
    answers = []
    for name in (email, address(), "nul\0@example.org", "ä@example.org"):
        hashed.clear()
        with pytest.raises(ParleyError) as refused:
            await client.sign_in(name, "not the password")
        answers.append((refused.value.code, refused.value.message, refused.value.metadata, list(hashed)))
    assert answers[0][0] == "INVALID_CREDENTIALS"
    assert answers[0][3] == ["verify"]  # the work: one verification, known or not
    assert all(answer == answers[0] for answer in answers)


async def test_a_refresh_token_is_good_once_and_its_successor_works(client):
    first = await client.sign_up(address())
    second = await client.refresh(first.refresh_token)
    third = await client.refresh(second.refresh_token)
    assert second.user == first.user
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert len({first.access_token, second.access_token, third.access_token}) == 3
    assert await client.me(third.access_token) == first.user


@pytest.mark.parametrize("generations", [1, 3])
async def test_reuse_of_a_spent_token_ends_its_session_and_no_other(client, generations):
    email = address()
    first, other = await client.sign_up(email), await client.sign_in(email)
    latest = first
    for _ in range(generations):
        latest = await client.refresh(latest.refresh_token)
    assert await refusal(client.refresh(first.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await refusal(client.refresh(latest.refresh_token)) == "INVALID_REFRESH_TOKEN"
    await client.refresh(other.refresh_token)


async def test_racers_with_one_token_never_both_get_a_successor(client, rows):
    email = address()
    await client.sign_up(email)
    for _ in range(10):
        session = await client.sign_in(email)
        answers = await asyncio.gather(
            *(client.refresh(session.refresh_token) for _ in range(_RACERS)), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, ParleyError)]
        assert [error.code for error in refused] == ["INVALID_REFRESH_TOKEN"] * (_RACERS - 1)
        (winner,) = [answer for answer in answers if not isinstance(answer, BaseException)]
        # Reuse was seen, so the session is over for the winner too.
        assert await refusal(client.refresh(winner.refresh_token)) == "INVALID_REFRESH_TOKEN"
    living = await rows(
        "SELECT count(*) FROM auth.refresh_tokens t JOIN auth.sessions s ON s.id = t.session_id"
        " JOIN auth.users u ON u.id = s.user_id WHERE u.email = :email AND t.spent_at IS NULL AND s.revoked_at IS NULL",
        email=email,
    )
    assert living == [(1,)]  # the one of the sign-up


async def test_the_database_itself_allows_one_living_token_a_session(client, rows, engine):
    session = await client.sign_up(address())
    ((session_id,),) = await rows("SELECT id FROM auth.sessions WHERE user_id = :id", id=uuid.UUID(session.user.id))
    with pytest.raises(sa.exc.IntegrityError, match="uq_refresh_tokens_living"):
        async with engine.begin() as connection:
            await connection.execute(
                sa.text(
                    "INSERT INTO auth.refresh_tokens (token_hash, session_id, created_at, expires_at)"
                    " VALUES (:hash, :session, now(), now())"
                ),
                {"hash": b"x" * 32, "session": session_id},
            )


@pytest.mark.parametrize("token", ["unknown", "x" * 512, "nul\0", "ä"])
async def test_unknown_refresh_tokens(client, token):
    assert await refusal(client.refresh(token)) == "INVALID_REFRESH_TOKEN"


@pytest.mark.parametrize("token", ["", "x" * 513])
async def test_refresh_tokens_of_impossible_length(client, token):
    with pytest.raises(ParleyError) as refused:
        await client.refresh(token)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert [error.field for error in refused.value.fields] == ["refreshToken"]


async def test_refresh_tokens_expire_unless_they_are_used(client, clock):
    session = await client.sign_up(address())
    for _ in range(3):  # longer in all than one token lives
        clock.pass_by(days=29)
        session = await client.refresh(session.refresh_token)
    clock.pass_by(days=30)
    assert await refusal(client.refresh(session.refresh_token)) == "INVALID_REFRESH_TOKEN"


async def test_tokens_and_passwords_are_not_in_the_database(client, rows):
    email = address()
    session = await client.sign_up(email)
    session = await client.refresh(session.refresh_token)
    for table in ("users", "sessions", "refresh_tokens"):
        for row in await rows(f"SELECT row_to_json(t)::text FROM auth.{table} t"):
            assert session.refresh_token not in row[0]
            assert session.refresh_token.encode().hex() not in row[0]
            assert PASSWORD not in row[0]
