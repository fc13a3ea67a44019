"""Signing up tells nobody but the mailbox whether an address has an account; who proves an address has it."""

import asyncio
import hashlib

import pytest
from parley_kit.errors import ParleyError

from .world import MAILS, PASSWORD, address, refusal

RACERS = 8


async def kinds(rows, email):
    return [kind for (kind,) in await rows("SELECT kind FROM auth.mails WHERE recipient = :e ORDER BY id", e=email)]


async def test_an_address_signs_in_when_it_was_proved(client, mailbox):
    email = address()
    session = await client.sign_up_only(email)
    assert (session.user.email, session.user.email_verified) == (email, False)
    assert await refusal(client.sign_in(email)) == "INVALID_CREDENTIALS"
    await client.verify_email(session.access_token, await mailbox(email))
    assert (await client.me(session.access_token)).email_verified
    assert (await client.sign_in(email)).user.id == session.user.id


async def test_a_token_is_good_once_and_for_a_day(client, mailbox, clock):
    email, late = address(), address()
    session, late_one = [await client.sign_up_only(each) for each in (email, late)]
    await client.verify_email(session.access_token, await mailbox(email))
    clock.pass_by(hours=24, seconds=1)
    for one, token in ((session, await mailbox(email)), (late_one, await mailbox(late)), (session, "made up")):
        with pytest.raises(ParleyError) as refused:
            await client.verify_email(one.access_token, token)
        assert [field.field for field in refused.value.fields] == ["token"]


async def test_tokens_are_stored_hashed(client, mailbox, rows):
    email = address()
    await client.sign_up_only(email)
    token = await mailbox(email)
    stored = await rows("SELECT token_hash FROM auth.mail_tokens WHERE email = :email", email=email)
    assert stored == [(hashlib.sha256(token.encode()).digest(),)]


async def test_a_known_address_gets_other_words_and_its_account_is_left_alone(client, rows):
    email = address()
    owner = await client.sign_up(email)
    stranger = await client.sign_up_only(email.upper(), "another password")
    assert stranger.user.id != owner.user.id
    assert await kinds(rows, email) == ["verify_email", "address_known"]
    assert await rows("SELECT token FROM auth.mails WHERE recipient = :e AND kind = 'address_known'", e=email) == [
        (None,)
    ]
    assert await refusal(client.sign_in(email, "another password")) == "INVALID_CREDENTIALS"
    assert (await client.sign_in(email)).user.id == owner.user.id


async def test_signing_up_looks_and_works_alike_for_known_and_unknown_addresses(client, hashed, statements):
    known, unknown = address(), address()
    await client.sign_up(known)
    answers, work = [], []
    for email in (known, unknown):
        hashed.clear()
        statements.clear()
        session = await client.sign_up_only(email)
        work.append((list(hashed), list(statements)))
        user = session.user
        answers.append((user.email == email, user.email_verified, session.expires_in, len(session.refresh_token)))
        answers[-1] += (await refusal(client.sign_in(email, "wrong password")),)
    assert answers[0] == answers[1]
    assert work[0] == work[1]
    assert work[0][0] == ["hash"]


async def test_whoever_proves_an_address_first_has_it(client, mailbox, rows):
    email = address()
    squatter = await client.sign_up_only(email, "squatter's password")
    squatters = await mailbox(email)
    owner = await client.sign_up_only(email)
    assert await refusal(client.verify_email(owner.access_token, squatters)) == "INVALID_ARGUMENT"
    await client.verify_email(owner.access_token, await mailbox(email))
    assert await refusal(client.verify_email(squatter.access_token, squatters)) == "INVALID_ARGUMENT"
    assert await refusal(client.sign_in(email, "squatter's password")) == "INVALID_CREDENTIALS"
    assert (await client.sign_in(email)).user.id == owner.user.id
    assert not (await client.me(squatter.access_token)).email_verified


async def test_of_racers_one_proves_an_address(client, mailbox, rows):
    email, tokens = address(), []
    for _ in range(4):
        session = await client.sign_up_only(email)
        tokens.append((session.access_token, await mailbox(email)))
    answers = await asyncio.gather(*(client.verify_email(*both) for both in tokens * 2), return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert {answer.code for answer in answers if isinstance(answer, Exception)} == {"INVALID_ARGUMENT"}
    assert await rows("SELECT count(*) FROM auth.users WHERE email = :e", e=email) == [(1,)]


async def test_no_address_is_bombed_however_many_sign_up_at_once(client, rows, clock):
    email = address()
    await asyncio.gather(*(client.sign_up_only(email) for _ in range(MAILS + RACERS)))
    assert len(await kinds(rows, email)) == MAILS
    clock.pass_by(hours=1, seconds=1)
    await client.sign_up_only(email)
    assert len(await kinds(rows, email)) == MAILS + 1


async def test_another_token_is_mailed_within_the_limit(client, mailbox, clock):
    email = address()
    session = await client.sign_up_only(email)
    first = await mailbox(email)
    for _ in range(MAILS - 1):
        await client.resend(session.access_token)
    assert await mailbox(email) != first
    with pytest.raises(ParleyError) as refused:
        await client.resend(session.access_token)
    assert (refused.value.code, refused.value.retry_after) == ("RATE_LIMITED", 3600)
    clock.pass_by(minutes=5)
    await client.verify_email(session.access_token, await mailbox(email))
    assert await refusal(client.resend(session.access_token)) == "FAILED_PRECONDITION"


async def test_a_device_that_was_signed_out_mails_and_proves_nothing(client):
    session = await client.sign_up_only(address())
    await client.sign_out(session.access_token)
    assert await refusal(client.resend(session.access_token)) == "UNAUTHENTICATED"
    assert await refusal(client.verify_email(session.access_token, "any")) == "UNAUTHENTICATED"


async def test_a_guest_becomes_an_account_and_keeps_its_id(client, mailbox):
    guest = await client.guest(device_name="phone")
    assert guest.user.email == ""
    assert (await client.refresh(guest.refresh_token)).user.id == guest.user.id
    email = address()
    user = await client.upgrade(guest.access_token, email)
    assert (user.id, user.email, user.email_verified) == (guest.user.id, email, False)
    assert await refusal(client.sign_in(email)) == "INVALID_CREDENTIALS"
    await client.verify_email(guest.access_token, await mailbox(email))
    assert (await client.sign_in(email)).user.id == guest.user.id
    assert await refusal(client.upgrade(guest.access_token, address())) == "FAILED_PRECONDITION"


async def test_a_mistyped_address_is_corrected_and_its_token_is_worth_nothing(client, mailbox):
    typo, right = address(), address()
    session = await client.sign_up_only(typo)
    await client.upgrade(session.access_token, right)
    assert await refusal(client.verify_email(session.access_token, await mailbox(typo))) == "INVALID_ARGUMENT"
    await client.verify_email(session.access_token, await mailbox(right))
    assert (await client.sign_in(right)).user.id == session.user.id


async def test_upgrading_looks_and_works_alike_for_known_and_unknown_addresses(client, hashed, statements):
    known = address()
    await client.sign_up(known)
    work = []
    for email in (known, address()):
        guest = await client.guest()
        hashed.clear()
        statements.clear()
        user = await client.upgrade(guest.access_token, email)
        work.append((user.email == email, user.email_verified, list(hashed), list(statements)))
    assert work[0] == work[1]


async def test_guessing_at_an_account_that_only_claims_an_address_uses_up_nobodys_guesses(client):
    email = address()
    await client.sign_up(email)
    squatter = await client.sign_up_only(email, "squatter's password")
    for _ in range(10):
        assert await refusal(client.change_password(squatter.access_token, "wrong")) == "INVALID_ARGUMENT"
    assert (await client.sign_in(email, PASSWORD)).user.email == email


async def test_a_guest_has_no_password_to_change(client):
    guest = await client.guest()
    assert await refusal(client.change_password(guest.access_token)) == "FAILED_PRECONDITION"
