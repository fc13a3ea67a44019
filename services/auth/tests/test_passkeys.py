"""Passkeys, with a software authenticator: real keys, real attestations and assertions."""

import asyncio
import base64
import json
import uuid

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from parley_auth import challenges
from parley_auth.settings import Settings
from parley_kit.errors import ParleyError
from parley_kit.testing import serve_in_process
from pydantic import ValidationError

from tests.framework.authenticator import CAN_SYNC, PRESENT, SYNCED, VERIFIED, Authenticator, b64, unb64

from .test_oidc import Someone
from .test_second_factors import Phone, race
from .world import ORIGINS, RP_ID, Client, address, refusal, replica


class Device(Authenticator):
    """An authenticator with an account."""

    def __init__(self, client, session, **more):
        super().__init__(ORIGINS[0], **more)
        self.client, self.session = client, session

    @property
    def token(self):
        return self.session.access_token

    async def add(self, name=""):
        return await self.client.add_passkey(
            self.token, self.create(await self.client.passkey_options(self.token)), name
        )

    async def answer(self):
        return self.get(await self.client.passkey_sign_in_options())

    async def sign_in(self, **more):
        return await self.client.sign_in_passkey(await self.answer(), **more)


@pytest_asyncio.fixture
async def device(client):
    return Device(client, await client.sign_up(address()))


@pytest_asyncio.fixture
async def known(device):
    await device.add("my phone")
    return device


@pytest_asyncio.fixture
async def replicas(engine, other_engine, clock, tokens, secrets, passwords):
    made = [replica(one, clock, tokens, secrets, passwords) for one in (engine, other_engine)]
    async with serve_in_process(made[0], tokens) as (first, _), serve_in_process(made[1], tokens) as (second, _):
        yield [Client(first), Client(second)]


async def test_add_list_sign_in_rename_delete(client, device):
    added = await device.add("my phone")
    assert (added.name, added.synced, added.HasField("last_use_time")) == ("my phone", False, False)
    assert await client.passkeys(device.token) == [added]
    session = await device.sign_in(device_name="phone")
    assert session.user == device.session.user
    assert (await client.refresh(session.refresh_token)).user == device.session.user
    assert "phone" in {listed.device_name for listed in (await client.list(device.token)).sessions}
    renamed = await client.rename_passkey(device.token, added.id, "old phone")
    assert (renamed.name, renamed.HasField("last_use_time")) == ("old phone", True)
    await client.delete_passkey(device.token, added.id)
    assert await client.passkeys(device.token) == []
    assert await refusal(device.sign_in()) == "INVALID_PASSKEY"


async def test_what_devices_are_told(client, device, clock):
    options = await client.passkey_options(device.token)
    assert options["rp"] == {"id": RP_ID, "name": "Parley"}
    assert unb64(options["user"]["id"]) == uuid.UUID(device.session.user.id).bytes
    assert options["user"]["name"] == device.session.user.email
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert options["attestation"] == "none"
    assert {parameter["alg"] for parameter in options["pubKeyCredParams"]} == {-7, -8, -257}
    assert options["excludeCredentials"] == []
    await device.add()
    (excluded,) = (await client.passkey_options(device.token))["excludeCredentials"]
    assert unb64(excluded["id"]) == device.credential_id
    options = await client.passkey_sign_in_options()
    assert (options["rpId"], options["userVerification"], options["allowCredentials"]) == (RP_ID, "required", [])


async def test_a_passkey_asks_for_no_code(client, known, clock):
    await Phone.of(client, clock, known.session)
    assert (await client.sign_in(known.session.user.email)).mfa.token
    assert (await known.sign_in()).access_token


def edited(credential, **changes):
    """Return a credential with other client data, signed as before."""
    client = json.loads(unb64(credential["response"]["clientDataJSON"])) | changes
    response = credential["response"] | {"clientDataJSON": b64(json.dumps(client).encode())}
    return credential | {"response": response}


def misbehaving(device, what):
    if what == "not verified":
        device.flags = PRESENT
    elif what == "not present":
        device.flags = VERIFIED
    elif what == "another origin":
        device.origin = "https://example.org.evil.example"
    elif what == "plain http":
        device.origin = "http://example.org"
    elif what == "another key":
        device.key = ec.generate_private_key(ec.SECP256R1())
    elif what == "somebody else's":
        device.user_handle = uuid.uuid4().bytes
    elif what == "nobody's":
        device.user_handle = b""


@pytest.mark.parametrize(
    "what",
    ["not verified", "not present", "another origin", "plain http", "another key", "somebody else's", "nobody's"],
)
async def test_a_sign_in_that_does_not_hold_is_refused(known, what):
    await known.sign_in()
    misbehaving(known, what)
    assert await refusal(known.sign_in()) == "INVALID_PASSKEY"


async def test_another_site_and_another_ceremony_are_refused(client, known):
    options = await client.passkey_sign_in_options()
    known.rp_id = "another.example"
    assert await refusal(client.sign_in_passkey(known.get(options))) == "INVALID_PASSKEY"
    known.rp_id = RP_ID
    answer = edited(await known.answer(), type="webauthn.create")
    assert await refusal(client.sign_in_passkey(answer)) == "INVALID_PASSKEY"


async def test_all_refusals_of_a_sign_in_are_alike(client, known):
    stranger = Device(client, known.session)
    stranger.rp_id, stranger.user_handle = RP_ID, known.user_handle
    used = await known.answer()
    await client.sign_in_passkey(used)
    told = set()
    for answer in (
        used,
        await stranger.answer(),
        edited(await known.answer(), origin="https://x.example"),
        {"id": "x"},
    ):
        with pytest.raises(ParleyError) as refused:
            await client.sign_in_passkey(answer)
        told.add((refused.value.code, refused.value.message, refused.value.fields))
    assert len(told) == 1


@pytest.mark.parametrize("what", ["not verified", "not present", "another origin", "plain http"])
async def test_a_registration_that_does_not_hold_is_refused(device, what):
    misbehaving(device, what)
    with pytest.raises(ParleyError) as refused:
        await device.add()
    assert [error.field for error in refused.value.fields] == ["credential"]


RUBBISH = [
    {},
    {"id": 7},
    {"id": "x", "response": "x"},
    {"id": "x", "response": {"clientDataJSON": "%%%"}},
    {"id": "x", "response": {"clientDataJSON": b64(b"[]")}},
    {"id": "x", "response": {"clientDataJSON": b64(b'{"challenge": 7}')}},
    {"id": "x", "response": {"clientDataJSON": b64(b'{"challenge": "\xc3\xa4\\ud800"}')}},
    {"id": "x", "response": {"clientDataJSON": b64(b"[" * 5000)}},
]


@pytest.mark.parametrize("credential", RUBBISH, ids=lambda credential: str(credential)[:40])
async def test_rubbish_is_refused_and_no_fault_of_ours(client, device, credential):
    assert await refusal(client.sign_in_passkey(credential)) in {"INVALID_PASSKEY", "INVALID_ARGUMENT"}
    assert await refusal(client.add_passkey(device.token, credential)) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("part", ["attestationObject", "authenticatorData", "signature"])
@pytest.mark.parametrize("rubbish", ["", "AAAA", b64(b"\xff" * 300), "not base64!"])
async def test_rubbish_with_a_good_challenge_is_refused_too(client, known, part, rubbish):
    options = await client.passkey_options(known.token)
    sign_in, register = await known.answer(), Device(client, known.session).create(options)
    for credential in (sign_in, register):
        credential["response"] = {
            name: rubbish if name == part else was for name, was in credential["response"].items()
        }
    if part in sign_in["response"]:
        assert await refusal(client.sign_in_passkey(sign_in)) == "INVALID_PASSKEY"
    else:
        assert await refusal(client.add_passkey(known.token, register)) == "INVALID_ARGUMENT"


async def test_what_is_large_is_named(client, device):
    with pytest.raises(ParleyError) as refused:
        await client.sign_in_passkey({"id": "x" * 17000})
    assert [error.field for error in refused.value.fields] == ["credential"]


async def test_the_counter_must_grow(client, known):
    """A copy that lags behind is found out, and so is the owner when the copy was faster: once."""
    await known.sign_in()
    known.count = 0
    assert await refusal(known.sign_in()) == "INVALID_PASSKEY"  # 1 again
    assert (await known.sign_in()).access_token


async def test_synced_passkeys_count_nothing(client):
    device = Device(client, await client.sign_up(address()), counts=False)
    device.flags |= CAN_SYNC | SYNCED
    assert (await device.add()).synced
    for _ in range(3):
        await device.sign_in()


async def test_a_device_that_counted_and_stopped_is_refused(known):
    await known.sign_in()
    known.counts, known.count = False, 0
    assert await refusal(known.sign_in()) == "INVALID_PASSKEY"


async def test_challenges_expire_are_for_one_purpose_and_one_account(client, known, clock):
    answer = await known.answer()
    clock.pass_by(minutes=5)
    assert await refusal(client.sign_in_passkey(answer)) == "INVALID_PASSKEY"
    options = await client.passkey_sign_in_options()
    options["challenge"] = await client.nonce()  # a nonce of an id token
    assert await refusal(client.sign_in_passkey(known.get(options))) == "INVALID_PASSKEY"


async def test_a_registration_is_for_the_account_that_asked(client, device):
    options = await client.passkey_options(device.token)
    other = await client.sign_up(address())
    assert await refusal(client.add_passkey(other.access_token, device.create(options))) == "INVALID_ARGUMENT"
    await client.add_passkey(device.token, device.create(options))
    assert await refusal(client.add_passkey(device.token, device.create(options))) == "INVALID_ARGUMENT"  # used


async def test_a_passkey_is_known_once(client, known):
    assert await refusal(known.add()) == "FAILED_PRECONDITION"
    known.session = await client.sign_up(address())
    assert await refusal(known.add()) == "FAILED_PRECONDITION"


async def test_of_a_hundred_racers_with_one_answer_one_signs_in(known, replicas):
    answer = await known.answer()
    won, refused = await race(replicas, [lambda c: c.sign_in_passkey(answer)] * 100)
    assert (len(won), refused) == (1, ["INVALID_PASSKEY"] * 99)


async def test_of_a_hundred_racers_with_one_registration_one_adds(device, replicas):
    credential = device.create(await device.client.passkey_options(device.token))
    won, refused = await race(replicas, [lambda c: c.add_passkey(device.token, credential)] * 100)
    assert (len(won), refused) == (1, ["INVALID_ARGUMENT"] * 99)


async def test_the_counter_alone_decides_a_race_too(known, replicas, monkeypatch):
    """Were a challenge taken twice, the counter would still let one in: the two are apart."""

    async def taken(*_):
        return True

    monkeypatch.setattr(challenges.Challenges, "take", taken)
    answer = await known.answer()
    won, refused = await race(replicas, [lambda c: c.sign_in_passkey(answer)] * 100)
    assert (len(won), refused) == (1, ["INVALID_PASSKEY"] * 99)


async def test_twenty_are_enough(client, known, rows):
    await rows(
        "INSERT INTO auth.passkeys (id, user_id, credential_id, public_key, sign_count, synced, name, created_at)"
        " SELECT gen_random_uuid(), :user, uuid_send(gen_random_uuid()), '', 0, false, 'x', now()"
        " FROM generate_series(1, 19) RETURNING 1",
        user=uuid.UUID(known.session.user.id),
    )
    assert await refusal(Device(client, known.session).add()) == "FAILED_PRECONDITION"


async def test_the_last_way_in_stays(client, issuer, clock):
    guest = await client.guest()
    one, two = Device(client, guest), Device(client, guest)
    first = await one.add()
    assert await refusal(client.delete_passkey(guest.access_token, first.id)) == "FAILED_PRECONDITION"
    second = await two.add()
    await client.delete_passkey(guest.access_token, first.id)
    link = await client.link(guest.access_token, *await Someone(client, issuer, clock).token())
    await client.unlink(guest.access_token, link.id)  # the passkey is left
    link = await client.link(guest.access_token, *await Someone(client, issuer, clock).token())
    await client.delete_passkey(guest.access_token, second.id)  # the identity is left
    assert await refusal(client.unlink(guest.access_token, link.id)) == "FAILED_PRECONDITION"


async def test_of_all_ways_taken_at_once_one_stays(client, issuer, clock):
    for _ in range(5):
        guest = await client.guest()
        passkeys = [await Device(client, guest).add() for _ in range(2)]
        links = [await client.link(guest.access_token, *await Someone(client, issuer, clock).token()) for _ in range(2)]
        await asyncio.gather(
            *(client.delete_passkey(guest.access_token, passkey.id) for passkey in passkeys),
            *(client.unlink(guest.access_token, link.id) for link in links),
            return_exceptions=True,
        )
        left = await client.passkeys(guest.access_token) + await client.identities(guest.access_token)
        assert len(left) == 1


async def test_somebody_elses_is_not_found(client, known):
    (passkey,) = await client.passkeys(known.token)
    other = await client.sign_up(address())
    assert await refusal(client.rename_passkey(other.access_token, passkey.id, "x")) == "NOT_FOUND"
    assert await refusal(client.delete_passkey(other.access_token, passkey.id)) == "NOT_FOUND"
    assert await client.passkeys(known.token) == [passkey]


async def test_a_device_that_was_signed_out_changes_nothing(client, known):
    (passkey,) = await client.passkeys(known.token)
    credential = known.create(await client.passkey_options(known.token))
    await client.sign_out(known.token)
    for call in (
        client.passkey_options(known.token), client.add_passkey(known.token, credential), client.passkeys(known.token),
        client.rename_passkey(known.token, passkey.id, "x"), client.delete_passkey(known.token, passkey.id),
    ):  # fmt: skip
        assert await refusal(call) == "UNAUTHENTICATED"


async def test_passkeys_go_with_their_account(client, known, rows):
    user = uuid.UUID(known.session.user.id)
    await client.passkey_options(known.token)
    await rows("DELETE FROM auth.users WHERE id = :user RETURNING 1", user=user)
    for table in ("passkeys", "challenges"):
        assert await rows(f"SELECT count(*) FROM auth.{table} WHERE user_id = :user", user=user) == [(0,)]
    assert await refusal(known.sign_in()) == "INVALID_PASSKEY"


def test_origins_are_read_and_checked():
    good = Settings(passkey_rp_id="example.org", passkey_origins="https://app.example.org, android:apk-key-hash:x")
    assert good.passkey_origins == ("https://app.example.org", "android:apk-key-hash:x")
    for origin in ("http://example.org", "https://example.org.evil.example", "https://evilexample.org", "example.org"):
        with pytest.raises(ValidationError, match="passkey_origins"):
            Settings(passkey_rp_id="example.org", passkey_origins=origin)


def test_base64_here_is_that_of_devices():
    assert unb64(b64(b"\xff\xfe\xfd")) == b"\xff\xfe\xfd"
    assert b64(b"\xff\xfe") == base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("=")


async def test_no_way_in_gets_past_a_disabled_account(client, known, issuer, clock, tokens):
    who, operator = Someone(client, issuer, clock), tokens.issue("service:operator", "admin", clock())
    await client.link(known.token, *await who.token())
    phone = await Phone.of(client, clock, known.session)
    challenge = await phone.challenge()
    await client.operate(operator, "DisableUser", user_id=known.session.user.id)
    refusals = [await refusal(known.sign_in()), await refusal(client.complete(challenge, phone.code()))]
    await client.operate(operator, "EnableUser", user_id=known.session.user.id)
    assert len(set(refusals)) == 1
    assert refusals[0] not in {"INTERNAL", "INVALID_PASSKEY", "INVALID_CODE"}
    assert (await client.complete(challenge, phone.code())).access_token  # nothing was used up
    assert (await known.sign_in()).access_token
    other = await client.guest()
    someone = Someone(client, issuer, clock)
    await client.link(other.access_token, *await someone.token())
    await client.operate(operator, "DisableUser", user_id=other.user.id)
    assert await refusal(someone.sign_in()) == refusals[0]
