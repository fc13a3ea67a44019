"""Deleted accounts: gone here at once, and driven until every other service has said twice that nothing is left."""

import asyncio
import datetime as dt
import uuid

import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley_auth.accounts import Accounts
from parley_auth.erasures import Erasures
from parley_auth.guesses import Guesses
from parley_auth.mailing import Mailing
from parley_auth.mfa import MfaChallenges
from parley_auth.repository import Repository
from parley_auth.sessions import Sessions
from parley_auth.upkeep import sweep
from parley_kit.context import ROLE_ADMIN
from parley_kit.db import new_id
from parley_kit.errors import ParleyError, Unavailable
from parley_kit.testing import serve_in_process

from .test_oidc import Someone
from .test_passkeys import Device
from .test_second_factors import Phone
from .world import LIMIT, MAILS, MFA_LIFETIME, PASSWORD, TIMES, WINDOW, address, provider, refusal, replica


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
        renewal = {"refresh_lifetime": dt.timedelta(days=30), "grace": dt.timedelta(0), "fresh": TIMES.fresh}
        sessions = Sessions(store, tokens, new_id=new_id, clock=clock, **renewal)
        guesses = Guesses(store, clock=clock, limit=LIMIT, window=WINDOW)
        mailing = Mailing(store, new_id=new_id, clock=clock, limit=MAILS)
        mfa = MfaChallenges(store, clock=clock, lifetime=MFA_LIFETIME)
        accounts = Accounts(store, passwords, sessions, guesses, mailing, mfa, new_id=new_id, clock=clock)
        return Erasures(store, accounts, sessions, others, TIMES, new_id=new_id, clock=clock)

    return make


@pytest_asyncio.fixture
async def channel(engine, clock, tokens, secrets, passwords, others, issuer):
    served = replica(engine, clock, tokens, secrets, passwords, others=others, providers=[provider(issuer)])
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


async def guessed(rows):
    return set(await rows("SELECT account FROM auth.password_guesses"))


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


async def test_nothing_is_left_of_other_ways_in_and_the_log_names_ids_only(client, rows, store, clock, issuer, tokens):
    email, guessed_before = address(), await guessed(rows)
    who = Someone(client, issuer, clock, email=email, email_verified=True)
    phone = await Phone.of(client, clock, await client.sign_up(email))
    session = phone.session
    await client.link(session.access_token, *await who.token())
    await Device(client, session).add(f"a passkey of {email}")
    await client.passkey_options(session.access_token)  # a challenge
    assert (await client.sign_in(email)).HasField("mfa")  # a sign-in that waits
    assert await refusal(client.complete(await phone.challenge(), phone.wrong())) == "INVALID_CODE"
    await client.create_key(session.access_token, name=f"a key of {email}")
    operator = tokens.issue("service:operator", ROLE_ADMIN, clock())
    await client.operate(operator, "DisableUser", user_id=session.user.id)
    await client.operate(operator, "EnableUser", user_id=session.user.id)
    everywhere = {
        "api_keys", "audit_log", "challenges", "identities", "passkeys", "pending_sign_ins", "recovery_codes", "sessions",
        "totp", "users",
    }  # fmt: skip
    assert await traces(rows, session.user.id) >= everywhere
    await refusal(client.sign_in(email, "wrong password"))
    assert len(await guessed(rows) - guessed_before) == 2  # at the password and at the code
    again = await client.complete(await phone.challenge(), phone.recovery_codes[0])
    await client.delete_me(again.access_token)
    assert await traces(rows, session.user.id) == {"erasures", "audit_log"}
    assert await traces(rows, email, who.claims["sub"]) == {"mails"}
    assert await guessed(rows) <= guessed_before
    # The log of what operators did stays as it was, and whoever comes back by the identity is somebody else.
    events = (await client.operate(operator, "ListAuditEvents", target=session.user.id)).events
    assert [event.action for event in events] == ["enable", "disable"]
    assert (await who.sign_in()).user.id != session.user.id


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


async def test_without_a_password_an_old_session_must_be_proved_again(client, clock, issuer):
    someone = Someone(client, issuer, clock)
    session = await someone.sign_in()
    clock.pass_by(minutes=10)
    assert await refusal(client.delete_me(session.access_token)) == "REAUTHENTICATION_REQUIRED"
    clock.pass_by(minutes=-1)
    await client.delete_me(session.access_token)
    assert await refusal(client.me(session.access_token)) == "UNAUTHENTICATED"


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


@pytest_asyncio.fixture
async def remaining(rows):
    """Whose accounts there are; at first nobody's."""
    await rows("DELETE FROM auth.users RETURNING id")

    async def ask():
        return {str(user) for (user,) in await rows("SELECT id FROM auth.users")}

    return ask


async def test_guests_go_when_nobody_is_them_any_more(client, remaining, driver, clock, others):
    gone = [await client.guest() for _ in range(12)]  # more than one step takes
    clock.pass_by(days=10)
    kept = [await client.guest()]
    clock.pass_by(days=25)
    kept[0] = await client.refresh(kept[0].refresh_token)  # a device that still uses its account
    clock.pass_by(days=12)
    await driver().remove_abandoned()
    assert await remaining() == {session.user.id for session in kept}
    for _ in range(2):
        await driver().drive()
    assert sorted(others["chat"].asked) == sorted(session.user.id for session in gone)


async def a_proved_address(client, clock, issuer):
    return await client.sign_up(address())


async def a_claimed_address(client, clock, issuer):
    return await client.sign_up_only(address())


async def an_identity(client, clock, issuer):
    return await Someone(client, issuer, clock).sign_in()


async def a_passkey(client, clock, issuer):
    guest = await client.guest()
    await Device(client, guest).add()
    return guest


@pytest.mark.parametrize("way", [a_proved_address, a_claimed_address, an_identity, a_passkey])
async def test_whoever_can_come_back_is_never_abandoned(client, remaining, driver, clock, issuer, way):
    session = await way(client, clock, issuer)
    await client.guest()
    for days in (46, 3650):
        clock.pass_by(days=days)
        await driver().remove_abandoned()
        assert await remaining() == {session.user.id}


@pytest.mark.parametrize("used", [True, False], ids=["used", "made"])
async def test_a_key_that_was_used_or_made_lately_keeps_its_guest(client, remaining, driver, clock, rows, used):
    guest, idle = await client.guest(), await client.guest()
    made = [await client.create_key(guest.access_token), await client.create_key(idle.access_token)]
    clock.pass_by(days=20)
    if used:
        assert (await client.check(made[0].secret))[0] == 200
    else:
        await rows(
            "UPDATE auth.api_keys SET created_at = :now WHERE user_id = :u RETURNING id", now=clock(), u=guest.user.id
        )
    clock.pass_by(days=44)
    await driver().remove_abandoned()
    assert await remaining() == {guest.user.id}
    clock.pass_by(days=2)
    await driver().remove_abandoned()
    assert await remaining() == set()


COMES_BACK = {
    "a key is used": "UPDATE auth.api_keys SET last_used_at = :now WHERE user_id = :user",
    "a session is renewed": "UPDATE auth.sessions SET refreshed_at = :now, expires_at = :later WHERE user_id = :user",
    "an identity is linked": """
        INSERT INTO auth.identities (id, user_id, provider, issuer, subject, linked_at, last_used_at)
        VALUES (gen_random_uuid(), :user, 'local', 'i', 'back', :now, :now)
    """,
}


@pytest.mark.parametrize("statement", COMES_BACK.values(), ids=COMES_BACK)
async def test_a_guest_who_comes_back_meanwhile_is_spared(
    client, rows, remaining, driver, clock, other_engine, statement
):
    guest, gone = await client.guest(), await client.guest()
    await client.create_key(guest.access_token)
    clock.pass_by(days=46)
    values = {"user": uuid.UUID(guest.user.id), "now": clock(), "later": clock() + dt.timedelta(days=1)}
    async with other_engine.begin() as connection:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        await connection.execute(sa.text(statement), used)
        removing = asyncio.create_task(driver().remove_abandoned())
        async with asyncio.timeout(10):  # until it waits for us, or is done without whom we have
            while not removing.done() and not await rows("SELECT 1 FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
    await removing
    assert await remaining() == {guest.user.id}
    assert gone.user.id != guest.user.id


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
