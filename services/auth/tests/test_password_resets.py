"""A forgotten password: the same answer for everybody, and the end of everything that the old one opened."""

import asyncio

import pytest
from parley_kit.errors import ParleyError

from .world import MAILS, NEW_PASSWORD, address, refusal


async def test_a_reset_ends_every_session(client, mailbox, rows):
    email = address()
    session = await client.sign_up(email)
    await client.request_reset(email.upper())
    await client.confirm_reset(await mailbox(email))
    assert await refusal(client.refresh(session.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await refusal(client.sign_in(email)) == "INVALID_CREDENTIALS"
    assert (await client.sign_in(email, NEW_PASSWORD)).user.id == session.user.id
    kinds = await rows("SELECT kind FROM auth.mails WHERE recipient = :e ORDER BY id", e=email)
    assert kinds == [("verify_email",), ("password_changed",)]


async def test_a_token_is_good_once_and_kills_the_others(client, mailbox):
    email, tokens = address(), []
    await client.sign_up(email)
    for _ in range(3):
        await client.request_reset(email)
        tokens.append(await mailbox(email))
    await client.confirm_reset(tokens[1])
    for token in tokens:
        assert await refusal(client.confirm_reset(token, "a third password")) == "INVALID_ARGUMENT"
    await client.sign_in(email, NEW_PASSWORD)


async def test_of_racers_with_one_token_one_sets_the_password(client, mailbox):
    email = address()
    await client.sign_up(email)
    await client.request_reset(email)
    token = await mailbox(email)
    answers = await asyncio.gather(
        *(client.confirm_reset(token, f"password {n}") for n in range(6)), return_exceptions=True
    )
    (winner,) = [n for n, answer in enumerate(answers) if not isinstance(answer, Exception)]
    await client.sign_in(email, f"password {winner}")


@pytest.mark.parametrize("token", ["verification", "expired", "made up", "nul\0"])
async def test_what_is_no_token_for_this_is_refused_without_a_hash(client, mailbox, clock, hashed, token):
    email = address()
    session = await client.sign_up_only(email)
    made = {"verification": await mailbox(email)}
    await client.verify_email(session.access_token, made["verification"])
    if token == "expired":
        await client.request_reset(email)
        made["expired"] = await mailbox(email)
        clock.pass_by(hours=1, seconds=1)
    hashed.clear()
    with pytest.raises(ParleyError) as refused:
        await client.confirm_reset(made.get(token, token))
    assert [field.field for field in refused.value.fields] == ["token"]
    assert hashed == []


async def test_asking_works_alike_for_known_and_unknown_addresses(client, statements, rows):
    known, claimed = address(), address()
    await client.sign_up(known)
    await client.sign_up_only(claimed)
    work = []
    for email in (known, claimed, address()):
        statements.clear()
        before = await rows("SELECT count(*) FROM auth.mails")
        statements.clear()
        await client.request_reset(email)
        work.append(list(statements))
        assert await rows("SELECT count(*) FROM auth.mails") == [(before[0][0] + 1,)]  # a write each, one to nobody
    assert work[0] == work[1] == work[2]
    assert await rows("SELECT kind FROM auth.mails WHERE recipient = :e", e=claimed) == [("verify_email",)]


async def test_no_address_is_bombed_and_nobody_is_told(client, rows):
    email = address()
    await client.sign_up(email)
    await asyncio.gather(*(client.request_reset(email) for _ in range(3 * MAILS)))
    count = "SELECT count(*) FROM auth.mails WHERE recipient = :e AND kind = 'reset_password'"
    assert await rows(count, e=email) == [(MAILS,)]


async def test_a_changed_password_is_told_to_its_owner(client, rows):
    email = address()
    session = await client.sign_up(email)
    await client.change_password(session.access_token)
    last = "SELECT kind, token FROM auth.mails WHERE recipient = :e ORDER BY id DESC LIMIT 1"
    assert await rows(last, e=email) == [("password_changed", None)]


async def test_of_racers_with_different_tokens_one_sets_the_password(client, mailbox):
    """Each holds the token that the other must kill: none may wait for the other."""
    email, tokens = address(), []
    await client.sign_up(email)
    for _ in range(MAILS):
        await client.request_reset(email)
        tokens.append(await mailbox(email))
    answers = await asyncio.gather(*(client.confirm_reset(token) for token in tokens), return_exceptions=True)
    assert {answer.code for answer in answers if isinstance(answer, Exception)} == {"INVALID_ARGUMENT"}
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1


async def test_a_reset_revokes_every_api_key(client, mailbox):
    """Else whoever knew the old password, or claimed the address before its owner, would keep what he made with it."""
    email = address()
    session = await client.sign_up(email)
    made = await client.create_key(session.access_token)
    await client.request_reset(email)
    await client.confirm_reset(await mailbox(email))
    assert (await client.check(made.secret))[0] == 401
    signed_in = await client.sign_in(email, NEW_PASSWORD)
    (listed,) = (await client.list_keys(signed_in.access_token)).api_keys
    assert listed.HasField("revoke_time")


async def test_no_key_outlives_a_reset_that_is_under_way(client, mailbox, rows):
    email = address()
    session = await client.sign_up(email)
    await client.request_reset(email)
    token = await mailbox(email)
    makers = [client.create_key(session.access_token) for _ in range(3)]
    _, *made = await asyncio.gather(client.confirm_reset(token), *makers, return_exceptions=True)
    living = "SELECT count(*) FROM auth.api_keys WHERE user_id = CAST(:id AS uuid) AND revoked_at IS NULL"
    assert await rows(living, id=session.user.id) == [(0,)], made


async def test_a_changed_password_kills_the_tokens_that_were_mailed(client, mailbox, rows):
    email = address()
    session = await client.sign_up(email)
    await client.request_reset(email)
    token = await mailbox(email)
    await client.change_password(session.access_token)
    assert await refusal(client.confirm_reset(token, "a third password")) == "INVALID_ARGUMENT"
    assert await rows("SELECT kind FROM auth.mails WHERE recipient = :e AND token = :t", e=email, t=token) == []
    await client.sign_in(email, NEW_PASSWORD)
