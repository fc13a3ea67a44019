import uuid
from base64 import b64encode

import pytest
from parley_kit.errors import ParleyError

from .world import PASSWORD, address, refusal


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
    claimed = address()
    await client.sign_up_only(claimed)
    answers = []
    for name in (email, claimed, address(), "nul\0@example.org", "ä@example.org"):
        hashed.clear()
        with pytest.raises(ParleyError) as refused:
            await client.sign_in(name, "not the password")
        answers.append((refused.value.code, refused.value.message, refused.value.metadata, list(hashed)))
    assert answers[0][0] == "INVALID_CREDENTIALS"
    assert answers[0][3] == ["verify"]  # the work: one verification, known or not
    assert all(answer == answers[0] for answer in answers)


async def test_tokens_and_passwords_are_not_in_the_database(client, rows):
    email = address()
    session = await client.sign_up(email)
    later = await client.refresh(session.refresh_token)
    assert await refusal(client.sign_in(email, PASSWORD + "x")) == "INVALID_CREDENTIALS"
    stored = [
        row
        for table in ("users", "sessions", "refresh_tokens", "password_guesses")
        for (row,) in await rows(f"SELECT row_to_json(t)::text FROM auth.{table} t")
    ]
    assert sum(email in row for row in stored) == 1  # the user's own: counted guesses do not say of whom
    for secret in (session.refresh_token, later.refresh_token, PASSWORD):
        for form in (secret, secret.encode().hex(), b64encode(secret.encode()).decode().rstrip("=")):
            assert not any(form in row for row in stored)
