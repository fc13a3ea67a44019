"""The limit on wrong passwords."""

import asyncio
import time

import pytest
from parley_kit.errors import ParleyError, Unavailable
from parley_kit.testing import serve_in_process

from .world import LIMIT, PASSWORD, Client, address, refusal, replica


async def guess(client, email, times=1):
    return [await refusal(client.sign_in(email, "not the password")) for _ in range(times)]


async def too_many(call):
    with pytest.raises(ParleyError) as refused:
        await call
    assert (refused.value.code, refused.value.rule.http_status) == ("RATE_LIMITED", 429)
    return refused.value


async def test_after_ten_wrong_ones_even_the_right_one_waits(client, clock, hashed):
    session = await client.sign_up(address())
    email = session.user.email
    assert await guess(client, email, LIMIT) == ["INVALID_CREDENTIALS"] * LIMIT
    hashed.clear()
    assert (await too_many(client.sign_in(email))).retry_after == 900
    assert hashed == []  # it was not even looked at
    clock.pass_by(minutes=14)
    assert (await too_many(client.sign_in(email.upper()))).retry_after == 60
    clock.pass_by(seconds=60)
    await client.sign_in(email)


async def test_devices_that_are_signed_in_stay_so(client):
    session = await client.sign_up(address())
    await guess(client, session.user.email, LIMIT)
    session = await client.refresh(session.refresh_token)
    assert len((await client.list(session.access_token)).sessions) == 1
    await client.sign_out(session.access_token)


async def test_known_and_unknown_e_mails_are_alike_to_the_end(client, hashed):
    known = (await client.sign_up(address())).user.email
    told = []
    for email in (known, address(), f"nul\0{address()}", f"ä{address()}"):
        hashed.clear()
        answers = []
        for _ in range(LIMIT + 2):
            with pytest.raises(ParleyError) as refused:
                await client.sign_in(email, "not the password")
            error = refused.value
            answers.append((error.code, error.message, error.metadata, error.fields, error.retry_after))
        told.append((answers, list(hashed)))
    assert told[0][1] == ["verify"] * LIMIT
    assert [answer[0] for answer in told[0][0]] == ["INVALID_CREDENTIALS"] * LIMIT + ["RATE_LIMITED"] * 2
    assert all(answer == told[0] for answer in told)


async def test_known_and_unknown_e_mails_take_the_same_time(client):
    """Medians of many: without a hash for nobody the unknown one would be answered in a tenth of the time."""
    seconds = {"known": [], "unknown": []}
    for _ in range(8):
        email = (await client.sign_up(address())).user.email
        for kind, name in (("known", email), ("unknown", address())):
            began = time.perf_counter()
            await guess(client, name)
            seconds[kind].append(time.perf_counter() - began)
    known, unknown = (sorted(taken)[len(taken) // 2] for taken in seconds.values())
    assert 0.4 < known / unknown < 2.5


async def test_the_window_slides(client, clock):
    """Any 15 minutes, not the 15 minutes of a calendar: the oldest guess leaves first, and only it makes room."""
    email = (await client.sign_up(address())).user.email
    for _ in range(LIMIT):
        await guess(client, email)
        clock.pass_by(minutes=1)
    assert (await too_many(client.sign_in(email))).retry_after == 300
    clock.pass_by(minutes=5)
    assert await guess(client, email) == ["INVALID_CREDENTIALS"]
    assert (await too_many(client.sign_in(email))).retry_after == 60


async def test_refused_guesses_do_not_prolong_the_wait(client, clock):
    email = (await client.sign_up(address())).user.email
    await guess(client, email, LIMIT)
    clock.pass_by(minutes=14)
    await guess(client, email, 5)
    clock.pass_by(minutes=1)
    await client.sign_in(email)


async def test_the_owner_signing_in_gives_a_guesser_nothing(client):
    email = (await client.sign_up(address())).user.email
    await guess(client, email, LIMIT - 1)
    for _ in range(3):
        await client.sign_in(email)
    assert await guess(client, email, 2) == ["INVALID_CREDENTIALS", "RATE_LIMITED"]


async def test_right_passwords_are_not_counted(client):
    email = (await client.sign_up(address())).user.email
    for _ in range(LIMIT + 5):
        await client.sign_in(email)


async def test_guesses_at_once_cannot_slip_through_together(
    client, engine, clock, tokens, secrets, passwords, hashed, rows
):
    email = (await client.sign_up(address())).user.email
    hashed.clear()
    other = replica(engine, clock, tokens, secrets, passwords)
    async with serve_in_process(other, tokens) as (channel, _):
        replicas = [client, Client(channel)]
        answers = await asyncio.gather(
            *(replicas[number % 2].sign_in(email, f"guess {number}") for number in range(100)), return_exceptions=True
        )
    codes = [answer.code for answer in answers]
    assert codes.count("INVALID_CREDENTIALS") == LIMIT
    assert codes.count("RATE_LIMITED") == 100 - LIMIT
    assert len(hashed) == LIMIT


async def test_the_count_survives_the_process(client, engine, clock, tokens, secrets, passwords):
    email = (await client.sign_up(address())).user.email
    await guess(client, email, LIMIT)
    fresh = replica(engine, clock, tokens, secrets, passwords)
    async with serve_in_process(fresh, tokens) as (channel, _):
        await too_many(Client(channel).sign_in(email))


async def test_one_accounts_guesses_are_nobody_elses(client):
    one, other = (await client.sign_up(address())).user.email, (await client.sign_up(address())).user.email
    await guess(client, one, LIMIT)
    await client.sign_in(other)


async def test_a_password_that_could_not_be_looked_at_is_not_counted(client, passwords):
    email = (await client.sign_up(address())).user.email
    verify = passwords.verify

    async def busy(*_):
        raise Unavailable("Too many people are signing in right now; try again in a moment.", retry_after=1)

    passwords.verify = busy
    for _ in range(LIMIT + 1):
        assert await refusal(client.sign_in(email)) == "UNAVAILABLE"
    passwords.verify = verify
    await client.sign_in(email, PASSWORD)


async def test_a_caller_who_hangs_up_has_guessed_all_the_same(client, passwords, hashed):
    """Who cannot see the answer may see it otherwise: the guess was made."""
    email = (await client.sign_up(address())).user.email
    hashed.clear()
    for _ in range(LIMIT):
        call = asyncio.ensure_future(client.sign_in(email, "not the password"))
        seen = len(hashed)
        while len(hashed) == seen:
            await asyncio.sleep(0.001)
        call.cancel()
    await too_many(client.sign_in(email))
