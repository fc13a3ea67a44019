"""Deleted accounts: gone here at once, and driven until every other service has said twice that nothing is left."""

import asyncio
import datetime as dt

import pytest
import pytest_asyncio
from parley_auth.accounts import Accounts
from parley_auth.erasures import Erasures
from parley_auth.guesses import Guesses
from parley_auth.mailing import Mailing
from parley_auth.repository import Repository
from parley_auth.sessions import Sessions
from parley_auth.upkeep import sweep
from parley_kit.db import new_id
from parley_kit.errors import ParleyError, Unavailable

from .world import LIMIT, MAILS, PASSWORD, TIMES, WINDOW, address, refusal


class Other:
    """Another service. It is away when told so, and needs some calls until nothing is left."""

    def __init__(self, calls=1):
        self.left, self.asked, self.away = calls, [], False

    async def erase(self, user_id):
        if self.away:
            raise Unavailable("away")
        self.asked.append(str(user_id))
        self.left -= 1
        return self.left <= 0

    async def export(self, user_id):
        yield "things", f'{{"of": "{user_id}"}}'


@pytest_asyncio.fixture
async def store(engine, rows):
    await rows("DELETE FROM auth.erasures RETURNING service")
    return Repository(engine)


@pytest.fixture
def others():
    return {"chat": Other(), "billing": Other()}


@pytest.fixture
def driver(store, clock, tokens, passwords, others):
    def make():
        renewal = {"refresh_lifetime": dt.timedelta(days=30), "grace": dt.timedelta(0)}
        sessions = Sessions(store, tokens, new_id=new_id, clock=clock, **renewal)
        guesses = Guesses(store, clock=clock, limit=LIMIT, window=WINDOW)
        mailing = Mailing(store, new_id=new_id, clock=clock, limit=MAILS)
        accounts = Accounts(store, passwords, sessions, guesses, mailing, new_id=new_id, clock=clock)
        return Erasures(store, accounts, sessions, others, TIMES, new_id=new_id, clock=clock)

    return make


@pytest_asyncio.fixture
async def channel(engine, clock, tokens, secrets, passwords, others):
    from parley_kit.testing import serve_in_process  # noqa: PLC0415

    from .world import replica  # noqa: PLC0415

    served = replica(engine, clock, tokens, secrets, passwords, others=others)
    async with serve_in_process(served, tokens) as (opened, _):
        yield opened


async def undone(rows):
    return {service for (service,) in await rows("SELECT service FROM auth.erasures WHERE done_at IS NULL")}


async def traces(rows, *texts):
    """Return the tables of auth in whose rows one of the texts stands."""
    tables = await rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'auth'")
    found = set()
    for (table,) in tables:
        for (row,) in await rows(f"SELECT to_jsonb(t)::text FROM auth.{table} t"):
            found |= {table} if any(text in row for text in texts) else set()
    return found


async def test_nothing_of_an_account_is_left_here_but_who_must_be_told(client, rows, store):
    email = address()
    session = await client.sign_up(email)
    await refusal(client.sign_in(email, "wrong password"))
    await client.request_reset(email)
    await client.create_key(session.access_token)
    await client.delete_me(session.access_token)
    assert await traces(rows, session.user.id) == {"erasures"}
    assert await traces(rows, email) == {"mails"}  # the farewell, until it is sent
    assert await rows("SELECT kind, token FROM auth.mails WHERE recipient = :e", e=email) == [("account_deleted", None)]
    for gone in (client.me(session.access_token), client.delete_me(session.access_token)):
        assert await refusal(gone) == "UNAUTHENTICATED"
    assert await refusal(client.refresh(session.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await refusal(client.sign_in(email)) == "INVALID_CREDENTIALS"
    assert (await client.sign_up(email)).user.id != session.user.id


async def test_an_old_session_needs_the_password(client, clock, hashed):
    session = await client.sign_up(address())
    clock.pass_by(minutes=11)
    for password in ("", "not the password"):
        with pytest.raises(ParleyError) as refused:
            await client.delete_me(session.access_token, password)
        assert [field.field for field in refused.value.fields] == ["password"]
    await client.delete_me(session.access_token, PASSWORD)
    assert await refusal(client.me(session.access_token)) == "UNAUTHENTICATED"


async def test_guesses_at_the_password_are_limited_here_too(client, clock):
    email = address()
    session = await client.sign_up(email)
    clock.pass_by(minutes=11)
    for _ in range(LIMIT):
        assert await refusal(client.delete_me(session.access_token, "wrong")) == "INVALID_ARGUMENT"
    assert await refusal(client.delete_me(session.access_token, PASSWORD)) == "RATE_LIMITED"
    assert await refusal(client.sign_in(email)) == "RATE_LIMITED"


async def test_a_guest_needs_no_password_and_an_ended_session_deletes_nothing(client):
    guest = await client.guest()
    session = await client.sign_up(address())
    await client.sign_out(session.access_token)
    assert await refusal(client.delete_me(session.access_token, PASSWORD)) == "UNAUTHENTICATED"
    await client.delete_me(guest.access_token)


async def test_a_service_is_told_until_it_says_twice_that_nothing_is_left(client, rows, others, driver, clock):
    session = await client.sign_up(address())
    others["chat"].left = 3
    await client.delete_me(session.access_token)
    erasures = driver()
    for _ in range(4):
        await erasures.drive()
        clock.pass_by(seconds=5)
    assert others["chat"].asked == [session.user.id] * 3
    assert others["billing"].asked == [session.user.id]
    assert await undone(rows) == {"chat", "billing"}
    clock.pass_by(seconds=61)
    await erasures.drive()
    assert (len(others["chat"].asked), len(others["billing"].asked)) == (4, 2)
    assert await undone(rows) == set()
    clock.pass_by(days=1)
    await erasures.drive()
    assert (len(others["chat"].asked), len(others["billing"].asked)) == (4, 2)


async def test_a_service_that_is_away_holds_up_nobody_and_is_told_when_it_is_back(client, rows, others, driver, clock):
    session = await client.sign_up(address())
    others["chat"].away = True
    await client.delete_me(session.access_token)
    erasures = driver()
    for _ in range(50):
        await erasures.drive()
        clock.pass_by(minutes=10)
    assert await undone(rows) == {"chat"}
    others["chat"].away = False
    for _ in range(8):
        await erasures.drive()
        clock.pass_by(minutes=10)
    assert await undone(rows) == set()


async def test_a_replica_that_dies_while_it_tells_leaves_it_to_another(client, rows, others, driver, clock, store):
    session = await client.sign_up(address())
    await client.delete_me(session.access_token)
    assert len(await store.take_erasures(clock(), 10)) == 2  # and dies
    clock.pass_by(seconds=5)
    for _ in range(2):
        await driver().drive()
        clock.pass_by(seconds=61)
    assert await undone(rows) == set()


async def test_replicas_share_the_work(client, others, driver):
    people = [await client.guest() for _ in range(6)]
    for person in people:
        await client.delete_me(person.access_token)
    await asyncio.gather(*(driver().drive() for _ in range(4)))
    assert sorted(others["chat"].asked) == sorted(person.user.id for person in people)


async def test_accounts_that_nobody_can_sign_in_to_go_when_they_are_not_used(client, rows, driver, clock, others):
    await rows("DELETE FROM auth.users RETURNING id")
    gone = [await client.guest(), await client.sign_up_only(address())]
    clock.pass_by(days=10)
    kept = [await client.sign_up(address()), await client.guest()]
    clock.pass_by(days=25)
    kept[1] = await client.refresh(kept[1].refresh_token)  # a device that still uses its account
    clock.pass_by(days=12)
    await driver().remove_abandoned()
    left = {str(user) for (user,) in await rows("SELECT id FROM auth.users")}
    assert left == {session.user.id for session in kept}
    await driver().drive()
    assert sorted(others["chat"].asked) == sorted(session.user.id for session in gone)


async def test_done_erasures_are_remembered_as_long_as_a_backup_may_come_back(client, rows, driver, clock, store):
    guest = await client.guest()
    await client.delete_me(guest.access_token)
    erasures = driver()
    for _ in range(2):
        await erasures.drive()
        clock.pass_by(seconds=61)
    clock.pass_by(days=89)
    await sweep(store, clock(), WINDOW)
    assert len(await rows("SELECT service FROM auth.erasures")) == 2
    clock.pass_by(days=2)
    await sweep(store, clock(), WINDOW)
    assert await rows("SELECT service FROM auth.erasures") == []
