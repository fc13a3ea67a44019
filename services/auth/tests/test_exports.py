"""One JSON document of all that is stored of an account, from every service, streamed."""

import asyncio
import json

import pytest
import pytest_asyncio
from parley_kit.context import ROLE_ADMIN
from parley_kit.errors import ParleyError, Unavailable
from parley_kit.testing import serve_in_process

from .test_oidc import Someone
from .test_passkeys import Device
from .test_second_factors import Phone
from .world import PASSWORD, address, provider, refusal, replica

AT_ONCE = 2


class Other:
    """Another service with some things, which may fail in the middle."""

    def __init__(self):
        self.things, self.fails = [], False
        self.pause = self.running = self.most = 0

    async def export(self, user_id):
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.pause)
        self.running -= 1
        for section, thing in self.things:
            yield section, json.dumps(thing)
        if self.fails:
            raise Unavailable("gone")


@pytest.fixture
def other():
    return Other()


@pytest_asyncio.fixture
async def channel(engine, clock, tokens, secrets, passwords, other, issuer):
    others = {"chat": other, "empty": Other()}
    served = replica(engine, clock, tokens, secrets, passwords, others=others, providers=[provider(issuer)])
    async with serve_in_process(served, tokens) as (opened, _):
        yield opened


async def test_everything_but_what_is_secret(client, other, rows):
    email = address()
    session = await client.sign_up(email, device_name='a "phone"')
    key = await client.create_key(session.access_token, name="my key")
    other.things = [("messages", {"content": "ä\u2028"}), ("messages", {"content": "two"}), ("pictures", {"png": "x"})]
    document, _ = await client.export(session.access_token)
    told = json.loads(document)
    assert list(told) == ["exportTime", "accounts", "sessions", "apiKeys", "messages", "pictures"]
    assert [(found["id"], found["email"]) for found in told["accounts"]] == [(session.user.id, email)]
    assert [found["deviceName"] for found in told["sessions"]] == ['a "phone"']
    assert [found["name"] for found in told["apiKeys"]] == ["my key"]
    assert [found["content"] for found in told["messages"]] == ["ä\u2028", "two"]
    for secret in (PASSWORD, "argon2", session.refresh_token, key.secret):
        assert secret not in document.decode()


async def test_other_ways_in_without_what_opens_them(client, rows, clock, issuer, tokens):
    phone = await Phone.of(client, clock, await client.sign_up(address()))
    session = phone.session
    who = Someone(client, issuer, clock, email="other@example.org")
    await client.link(session.access_token, *await who.token())
    device = Device(client, session)
    await device.add("my laptop")
    operator = tokens.issue("service:operator", ROLE_ADMIN, clock())
    await client.operate(operator, "SetUserRole", user_id=session.user.id, role="support", reason="between us")
    document, _ = await client.export(session.access_token)
    told = json.loads(document)
    (identity,) = told["identities"]
    assert (identity["provider"], identity["subject"], identity["email"]) == (
        "local", who.claims["sub"], "other@example.org",
    )  # fmt: skip
    assert [(passkey["name"], passkey["lastUseTime"]) for passkey in told["passkeys"]] == [("my laptop", None)]
    (app,) = told["authenticatorApps"]
    assert app["recoveryCodesLeft"] == len(phone.recovery_codes) > 0
    assert app["confirmTime"] is not None
    assert [action["details"] for action in told["operatorActions"]] == ["user -> support"]
    assert told["accounts"][0]["role"] == "support"
    ((public, credential),) = await rows(
        "SELECT encode(public_key, 'hex'), encode(credential_id, 'hex') FROM auth.passkeys WHERE user_id = :u",
        u=session.user.id,
    )
    ((sealed,),) = await rows("SELECT encode(sealed, 'hex') FROM auth.totp WHERE user_id = :u", u=session.user.id)
    for secret in (phone.app.secret, sealed, public, credential, *phone.recovery_codes, "between us", "operator"):
        assert secret not in document.decode().replace("operatorActions", "")


async def test_a_guest_without_anything_gets_a_whole_document(client):
    document, _ = await client.export((await client.guest()).access_token)
    assert list(json.loads(document)) == ["exportTime", "accounts", "sessions"]


async def test_it_is_streamed(client, other):
    session = await client.guest()
    other.things = [("messages", {"content": "x" * 1000})] * 5000
    document, pieces = await client.export(session.access_token)
    assert len(json.loads(document)["messages"]) == 5000
    assert pieces > 50


async def test_what_fails_in_the_middle_leaves_no_whole_document(client, other):
    session = await client.guest()
    other.things, other.fails = [("messages", {"content": "x" * 100_000})] * 3, True
    assert await refusal(client.export(session.access_token)) == "UNAVAILABLE"


async def test_one_a_minute(client, clock):
    session = await client.guest()
    await client.export(session.access_token)
    with pytest.raises(ParleyError) as refused:
        await client.export(session.access_token)
    assert (refused.value.code, refused.value.retry_after) == ("RATE_LIMITED", 60)
    clock.pass_by(minutes=1)
    await client.export(session.access_token)


async def test_an_ended_session_exports_nothing(client):
    session = await client.sign_up(address())
    await client.sign_out(session.access_token)
    assert await refusal(client.export(session.access_token)) == "UNAUTHENTICATED"


async def test_so_many_at_once_and_no_more(client, other):
    sessions = [await client.guest() for _ in range(6)]
    other.pause = 0.2
    answers = await asyncio.gather(*(client.export(one.access_token) for one in sessions), return_exceptions=True)
    assert {error.code for error in answers if isinstance(error, ParleyError)} <= {"UNAVAILABLE"}
    assert other.most == AT_ONCE
    for session, answer in zip(sessions, answers, strict=True):
        if isinstance(answer, ParleyError):
            await client.export(session.access_token)  # it does not count as one of this minute
