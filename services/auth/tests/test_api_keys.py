import asyncio
import datetime as dt
import hashlib
import uuid

import pytest
from parley_auth.api_key import new_secret
from parley_auth.key_exchange import KeyExchange
from parley_auth.repository import Repository
from parley_auth.repository import api_keys as keys_repository
from parley_auth.settings import Settings
from parley_auth.wrong_keys import WrongKeys
from parley_kit.errors import ParleyError
from pydantic import ValidationError

from .world import KEY_FRESH, KEY_TOKEN, MOST_KEYS, WRONG_KEYS, address, refusal


@pytest.fixture
async def owner(client):
    return await client.sign_up(address())


async def test_only_a_hash_is_stored(client, owner, rows):
    made = await client.create_key(owner.access_token)
    (stored,) = await rows("SELECT * FROM auth.api_keys WHERE id = :id", id=uuid.UUID(made.api_key.id))
    assert hashlib.sha256(made.secret.encode()).digest() in stored
    assert made.secret not in str(stored)
    assert made.secret[len(made.api_key.prefix) :] not in str(stored)
    assert len(made.secret) == 46


async def test_a_key_becomes_a_token_of_its_owner(client, owner, tokens):
    made = await client.create_key(owner.access_token, scopes=["models", "chat"], credit_limit_micros=5)
    status, token = await client.check(made.secret)
    assert status == 200
    principal = await tokens.verify(token)
    assert (principal.subject, principal.role, principal.session_id) == (owner.user.id, "user", None)
    assert principal.api_key.id == uuid.UUID(made.api_key.id)
    assert principal.api_key.scopes == {"chat", "models"}
    assert principal.api_key.credit_limit_micros == 5


async def test_without_a_limit_the_token_has_none(client, owner, tokens):
    made = await client.create_key(owner.access_token)
    assert (await tokens.verify((await client.check(made.secret))[1])).api_key.credit_limit_micros is None


async def test_unknown_expired_and_revoked_keys_are_told_the_same(client, owner, clock):
    revoked = await client.create_key(owner.access_token)
    await client.revoke_key(owner.access_token, revoked.api_key.id)
    expired = await client.create_key(owner.access_token, expire_time=clock() + dt.timedelta(seconds=10))
    clock.pass_by(seconds=11)
    told = {await client.check(key) for key in (revoked.secret, expired.secret, new_secret(), "sk-", "no key")}
    assert told == {(401, "The API key is unknown, expired or revoked")}


async def test_the_same_work_for_every_wrong_key(client, owner, clock, engine, tokens):
    """One query each, and the same one: so the time says nothing about what is wrong."""
    asked = []

    class Counted(Repository):
        async def use_key(self, *values):
            asked.append(values)
            return await super().use_key(*values)

    revoked = await client.create_key(owner.access_token)
    await client.revoke_key(owner.access_token, revoked.api_key.id)
    wrong = WrongKeys(clock=clock, limit=100)
    exchange = KeyExchange(Counted(engine), tokens, wrong, clock=clock, fresh=KEY_FRESH, lifetime=KEY_TOKEN)
    for key in (revoked.secret, new_secret()):
        with pytest.raises(ParleyError):
            await exchange.exchange(key, "192.0.2.1")
    assert len(asked) == 2


async def test_an_expiry_holds_though_the_answer_is_kept(client, owner, clock):
    made = await client.create_key(owner.access_token, expire_time=clock() + dt.timedelta(seconds=2))
    assert (await client.check(made.secret))[0] == 200
    clock.pass_by(seconds=2.1)
    assert (await client.check(made.secret))[0] == 401


async def test_a_key_revoked_elsewhere_ends_when_its_answer_is_old(client, owner, clock, rows):
    made = await client.create_key(owner.access_token)
    assert (await client.check(made.secret))[0] == 200
    await rows("UPDATE auth.api_keys SET revoked_at = now() WHERE id = :id RETURNING id", id=uuid.UUID(made.api_key.id))
    clock.pass_by(seconds=KEY_FRESH.total_seconds() - 0.1)
    assert (await client.check(made.secret))[0] == 200
    clock.pass_by(seconds=0.2)
    assert (await client.check(made.secret))[0] == 401


async def test_a_key_revoked_here_ends_at_once_and_for_ever(client, owner, clock):
    made = await client.create_key(owner.access_token)
    assert (await client.check(made.secret))[0] == 200
    first = await client.revoke_key(owner.access_token, made.api_key.id)
    assert (await client.check(made.secret))[0] == 401
    clock.pass_by(seconds=60)
    again = await client.revoke_key(owner.access_token, made.api_key.id)
    assert again == first


async def test_most_requests_ask_nobody_and_the_last_use_is_written_once_a_minute(client, owner, clock, rows):
    made = await client.create_key(owner.access_token)
    writes = "SELECT last_used_at, xmin::text FROM auth.api_keys WHERE id = :id"
    key_id = uuid.UUID(made.api_key.id)
    assert (await rows(writes, id=key_id))[0][0] is None
    await client.check(made.secret)
    first = await rows(writes, id=key_id)
    assert first[0][0] == clock()
    tokens = set()
    for _ in range(11):
        clock.pass_by(seconds=5.1)
        tokens.add(await client.check(made.secret))
    assert await rows(writes, id=key_id) == first
    assert len(tokens) == 11
    clock.pass_by(seconds=5.1)
    assert await client.check(made.secret) == await client.check(made.secret)
    assert (await rows(writes, id=key_id))[0][0] == clock()


async def test_a_hundred_requests_at_once_ask_once(client, owner, clock, engine, tokens):
    asked = []

    class Counted(Repository):
        async def use_key(self, *values):
            asked.append(values)
            return await super().use_key(*values)

    made = await client.create_key(owner.access_token)
    exchange = KeyExchange(
        Counted(engine), tokens, WrongKeys(clock=clock, limit=5), clock=clock, fresh=KEY_FRESH, lifetime=KEY_TOKEN
    )
    answers = await asyncio.gather(*(exchange.exchange(made.secret, "192.0.2.1") for _ in range(100)))
    assert len(set(answers)) == 1
    assert len(asked) == 1


async def test_guessing_is_limited_by_address(client, owner, clock):
    made = await client.create_key(owner.access_token)
    there, elsewhere = "2001:db8:1:1::7", "2001:db8:1:2::7"
    assert (await client.check(made.secret, there))[0] == 200
    other = await client.create_key(owner.access_token)
    codes = [(await client.check(new_secret(), f"2001:db8:1:1::{n}"))[0] for n in range(WRONG_KEYS + 2)]
    assert codes == [401] * WRONG_KEYS + [429] * 2
    clock.pass_by(seconds=10)
    assert (await client.check(made.secret, there))[0] == 200  # known to be good, though its answer is old
    assert (await client.check(other.secret, there))[0] == 429
    assert (await client.check(other.secret, elsewhere))[0] == 200
    clock.pass_by(seconds=51)
    assert (await client.check(new_secret(), there))[0] == 401


def test_every_spelling_of_an_ipv4_address_is_one_customer_and_no_other_is(clock):
    wrong = WrongKeys(clock=clock, limit=1)
    wrong.count("::ffff:192.0.2.1")
    assert wrong.wait("192.0.2.1") > 0
    assert wrong.wait("::ffff:192.0.2.2") == wrong.wait("192.0.2.2") == wrong.wait("::1") == 0


async def test_of_keys_that_do_not_hold_the_newest_are_kept(client, owner, rows, monkeypatch):
    monkeypatch.setattr(keys_repository, "_KEPT", 2)
    living = await client.create_key(owner.access_token, "living")
    for number in range(5):
        made = await client.create_key(owner.access_token, str(number))
        await client.revoke_key(owner.access_token, made.api_key.id)
    await client.create_key(owner.access_token, "last")
    names = [key.name for key in (await client.list_keys(owner.access_token)).api_keys]
    assert names == ["last", "4", "3", "living"]
    assert (await client.check(living.secret))[0] == 200


async def test_lists_go_in_pages(client, owner):
    made = [await client.create_key(owner.access_token, name=f"key {n}") for n in range(3)]
    first = await client.list_keys(owner.access_token, page_size=2)
    rest = await client.list_keys(owner.access_token, page_size=2, page_token=first.next_page_token)
    assert [key.id for key in (*first.api_keys, *rest.api_keys)] == [key.api_key.id for key in reversed(made)]
    assert rest.next_page_token == ""
    assert await refusal(client.list_keys(owner.access_token, page_token="x")) == "INVALID_ARGUMENT"


async def test_a_repeated_request_makes_no_second_key(client, owner):
    arguments = {"scopes": ["chat"], "request_id": "once"}
    first, second = [await client.create_key(owner.access_token, **arguments) for _ in range(2)]
    assert second.api_key == first.api_key
    assert second.secret == ""
    assert len((await client.list_keys(owner.access_token)).api_keys) == 1
    assert await refusal(client.create_key(owner.access_token, **arguments | {"scopes": ["images"]})) == (
        "IDEMPOTENCY_CONFLICT"
    )


async def test_twenty_at_once_make_as_many_as_are_allowed(client, owner):
    made = await asyncio.gather(
        *(client.create_key(owner.access_token, name=f"{n}") for n in range(20)), return_exceptions=True
    )
    refused = [error for error in made if isinstance(error, ParleyError)]
    assert len(made) - len(refused) == MOST_KEYS
    assert {error.code for error in refused} == {"FAILED_PRECONDITION"}


async def test_revoked_keys_make_room(client, owner):
    made = [await client.create_key(owner.access_token) for _ in range(MOST_KEYS)]
    assert await refusal(client.create_key(owner.access_token)) == "FAILED_PRECONDITION"
    await client.revoke_key(owner.access_token, made[0].api_key.id)
    await client.create_key(owner.access_token)


async def test_another_ones_key_is_not_found(client, owner):
    made = await client.create_key(owner.access_token)
    other = await client.sign_up(address())
    assert await refusal(client.revoke_key(other.access_token, made.api_key.id)) == "NOT_FOUND"
    assert await refusal(client.rename_key(other.access_token, made.api_key.id, "x")) == "NOT_FOUND"
    assert not (await client.list_keys(other.access_token)).api_keys
    assert (await client.check(made.secret))[0] == 200


async def test_a_signed_out_device_makes_no_keys(client, owner):
    await client.sign_out(owner.access_token)
    assert await refusal(client.create_key(owner.access_token)) == "UNAUTHENTICATED"


async def test_a_key_makes_no_keys(client, owner):
    made = await client.create_key(owner.access_token, scopes=["chat", "images", "models", "account-read"])
    _, token = await client.check(made.secret)
    for call in (
        client.create_key(token), client.list_keys(token), client.revoke_key(token, made.api_key.id),
        client.rename_key(token, made.api_key.id, "x"), client.list(token), client.sign_out_all(token),
        client.change_password(token),
    ):  # fmt: skip
        assert await refusal(call) == "PERMISSION_DENIED"
    assert (await client.me(token)).id == owner.user.id


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["admin"]},
        {"scopes": ["chat", "chat"]},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"credit_limit_micros": 0},
        {"expire_time": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)},
        {"request_id": "two words"},
    ],
)
async def test_what_a_key_must_be(client, owner, wrong):
    assert await refusal(client.create_key(owner.access_token, **wrong)) == "INVALID_ARGUMENT"


def test_no_settings_let_a_kept_token_expire_before_a_slow_body_is_there():
    """A body may take 60 s, the token is up to KEY_FRESH_SECONDS old when it begins, and the service verifies it then."""
    for fresh in range(1, 31):
        try:
            settings = Settings(key_fresh_seconds=fresh, key_token_seconds=75)
        except ValidationError:
            continue
        assert settings.key_token_seconds - settings.key_fresh_seconds > 60
