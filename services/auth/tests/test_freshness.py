"""What a session alone may not do: change the ways into its account; and what its owner is told of such changes."""

import asyncio

import pytest
from parley_auth.repository import freshness, second_factors

from .test_oidc import Someone
from .test_passkeys import Device
from .test_second_factors import Phone
from .world import NEW_PASSWORD, PASSWORD, address, refusal

NEEDED = "REAUTHENTICATION_REQUIRED"
TOLD = "SELECT kind FROM auth.mails WHERE recipient = :e AND kind NOT IN ('verify_email', 'reset_password') ORDER BY id"


@pytest.fixture
def told(rows):
    async def kinds(email):
        return [kind for (kind,) in await rows(TOLD, e=email)]

    return kinds


async def changes(client, session, issuer, clock):
    """Return the calls that change the ways into an account, each of which would succeed."""
    token = session.access_token
    device, someone = Device(client, session), Someone(client, issuer, clock)
    passkey = await device.add()
    identity = await client.link(token, *await someone.token())
    other = Someone(client, issuer, clock)
    return {
        "a key": lambda: client.create_key(token),
        "options": lambda: client.passkey_options(token),
        "a passkey less": lambda: client.delete_passkey(token, passkey.id),
        "an identity": lambda: link(client, token, other),
        "an identity less": lambda: client.unlink(token, identity.id),
    }


async def link(client, token, someone):
    return await client.link(token, *await someone.token())


async def test_a_session_alone_changes_no_way_in(client, issuer, clock, told):
    session = await client.sign_up(address())
    calls = await changes(client, session, issuer, clock)
    before = await told(session.user.email)
    for name, call in calls.items():
        clock.pass_by(minutes=10)
        assert await refusal(call()) == NEEDED, name
        wrong = client.reauthenticate(session.access_token, password="wrong")
        assert await refusal(wrong) == "INVALID_ARGUMENT"
        assert await refusal(call()) == NEEDED, name
        assert await client.reauthenticate(session.access_token, password=PASSWORD) == 600
        await call()
    assert before == ["passkey_added", "identity_linked"]
    assert (await told(session.user.email))[2:] == [
        "api_key_made", "passkey_deleted", "identity_linked", "identity_unlinked",
    ]  # fmt: skip


async def test_a_passkey_is_added_by_a_fresh_session_only(client, clock, told):
    device = Device(client, await client.sign_up(address()))
    clock.pass_by(minutes=9)
    made = device.create(await client.passkey_options(device.token))
    clock.pass_by(minutes=1)
    assert await refusal(client.add_passkey(device.token, made)) == NEEDED
    await client.reauthenticate(device.token, password=PASSWORD)
    await client.add_passkey(device.token, made)
    assert await told(device.session.user.email) == ["passkey_added"]


async def test_with_a_second_factor_the_password_is_not_enough(client, clock):
    phone = await Phone.of(client, clock, await client.sign_up(address()))
    token = phone.session.access_token
    clock.pass_by(minutes=10)
    assert await refusal(client.reauthenticate(token, password=PASSWORD)) == "INVALID_ARGUMENT"
    assert await refusal(client.reauthenticate(token, password=PASSWORD, code=phone.wrong())) == "INVALID_ARGUMENT"
    assert await refusal(client.reauthenticate(token, code=phone.code())) == "INVALID_ARGUMENT"
    assert await refusal(client.create_key(token)) == NEEDED
    code = phone.code()
    await client.reauthenticate(token, password=PASSWORD, code=code)
    assert await refusal(client.reauthenticate(token, password=PASSWORD, code=code)) == "INVALID_ARGUMENT"  # used
    await client.create_key(token)


async def test_another_session_is_not_made_fresh(client, clock):
    first = await client.sign_up(address())
    second = await client.sign_in(first.user.email)
    clock.pass_by(minutes=10)
    await client.reauthenticate(first.access_token, password=PASSWORD)
    assert await refusal(client.create_key(second.access_token)) == NEEDED


async def test_a_renewed_session_is_no_fresh_one(client, clock):
    session = await client.sign_up(address())
    clock.pass_by(minutes=10)
    await client.refresh(session.refresh_token)
    assert await refusal(client.create_key(session.access_token)) == NEEDED


async def test_a_guest_has_nothing_to_prove_until_there_is_a_way_in(client, clock):
    guest = await client.guest()
    clock.pass_by(minutes=11)
    await client.create_key(guest.access_token)
    device = Device(client, guest)
    await device.add()
    assert await refusal(client.create_key(guest.access_token)) == NEEDED
    assert await refusal(client.upgrade(guest.access_token, address())) == NEEDED
    assert await refusal(client.enrol(guest.access_token, "")) == NEEDED
    assert await refusal(client.reauthenticate(guest.access_token)) == "FAILED_PRECONDITION"
    assert (await device.sign_in()).user.id == guest.user.id


async def test_whoever_holds_a_session_cannot_put_his_own_address_in_place_of_a_claimed_one(client, clock):
    session = await client.sign_up_only(address())
    clock.pass_by(minutes=10)
    assert await refusal(client.upgrade(session.access_token, address(), NEW_PASSWORD)) == NEEDED
    await client.reauthenticate(session.access_token, password=PASSWORD)
    await client.upgrade(session.access_token, address(), NEW_PASSWORD)


async def test_a_change_that_waited_for_a_sign_out_adds_nothing(client, rows, monkeypatch):
    """The session is looked at when the account is locked: what ends it meanwhile is seen."""
    device = Device(client, await client.sign_up(address()))
    made, lock = device.create(await client.passkey_options(device.token)), freshness.lock_account

    async def ended_first(connection, user_id):
        await client.sign_out_all(device.token)
        await lock(connection, user_id)

    monkeypatch.setattr(freshness, "lock_account", ended_first)
    assert await refusal(client.add_passkey(device.token, made)) == "UNAUTHENTICATED"
    count = "SELECT count(*) FROM auth.passkeys WHERE user_id = CAST(:u AS uuid)"
    assert await rows(count, u=device.session.user.id) == [(0,)]


async def test_the_second_factors_owner_is_told(client, clock, told):
    phone = await Phone.of(client, clock, await client.sign_up(address()))
    token = phone.session.access_token
    await client.regenerate(token, phone.code())
    clock.pass_by(seconds=60)
    await client.disable(token, phone.code())
    assert await told(phone.email) == ["second_factor_on", "recovery_codes_replaced", "second_factor_off"]


async def test_an_identity_that_comes_by_its_e_mail_is_told(client, issuer, clock, told):
    owner = await client.sign_up(address())
    who = Someone(client, issuer, clock, email=owner.user.email, email_verified=True)
    assert (await who.sign_in()).user.id == owner.user.id
    await who.sign_in()
    assert await told(owner.user.email) == ["identity_linked"]


async def armed(client, clock, issuer):
    """Return somebody's device with every way in: identity, passkey, second factor."""
    session = await client.sign_up(address())
    device, someone = Device(client, session), Someone(client, issuer, clock)
    await device.add()
    await link(client, session.access_token, someone)
    return device, someone, await Phone.of(client, clock, session)


async def reset(client, mailbox, email, **more):
    await client.request_reset(email)
    await client.confirm_reset(await mailbox(email), **more)


LAST = "SELECT details FROM auth.mails WHERE recipient = :e ORDER BY id DESC LIMIT 1"


async def test_a_reset_removes_what_was_added_lately(client, clock, issuer, mailbox, rows):
    device, someone, phone = await armed(client, clock, issuer)
    clock.pass_by(days=6)
    await reset(client, mailbox, phone.email)
    session = await client.sign_in(phone.email, NEW_PASSWORD)  # no second factor is asked for
    assert await refusal(device.sign_in()) == "INVALID_PASSKEY"
    assert (await someone.sign_in()).user.id != session.user.id
    ((details,),) = await rows(LAST, e=phone.email)
    assert details.endswith("identity providers (1), passkeys (1), second factor (1).")
    count = "SELECT count(*) FROM auth.recovery_codes WHERE user_id = CAST(:u AS uuid)"
    assert await rows(count, u=session.user.id) == [(0,)]


async def test_a_reset_leaves_what_has_settled_and_tells_of_it(client, clock, issuer, mailbox, rows):
    device, someone, phone = await armed(client, clock, issuer)
    clock.pass_by(days=7, seconds=1)
    await reset(client, mailbox, phone.email)
    ((details,),) = await rows(LAST, e=phone.email)
    assert details == (
        "Still there, if you do not know it, remove it: identity providers (1), passkeys (1), second factor (1)."
    )
    assert (await device.sign_in()).user.id == phone.session.user.id
    assert (await someone.sign_in()).mfa.token
    assert (await client.sign_in(phone.email, NEW_PASSWORD)).mfa.token


async def test_all_goes_on_demand_but_the_mailbox_alone_never_lets_in(client, clock, issuer, mailbox):
    device, someone, phone = await armed(client, clock, issuer)
    clock.pass_by(days=8)
    await reset(client, mailbox, phone.email, remove_other_ways_in=True)
    assert await refusal(device.sign_in()) == "INVALID_PASSKEY"
    assert (await someone.sign_in()).user.id != phone.session.user.id
    answer = await client.sign_in(phone.email, NEW_PASSWORD)
    assert answer.mfa.token
    assert (await client.complete(answer.mfa.token, phone.code())).user.id == phone.session.user.id


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def test_a_second_step_and_the_end_of_the_second_factor_never_wait_in_a_circle(client, clock, rows, monkeypatch):
    """The second step holds its sign-in and is about to use a code when the owner turns the factor off, by another code."""
    phone = await Phone.of(client, clock, await client.sign_up(address()))
    challenge = await phone.challenge()
    first, inside, use = asyncio.Event(), asyncio.Event(), second_factors._used_up

    async def met(connection, user_id, proof):
        if not first.is_set():
            first.set()
            async with asyncio.timeout(60):
                while not inside.is_set() and await rows(WAITING) == [(0,)]:
                    await asyncio.sleep(0.01)
            return await use(connection, user_id, proof)
        used = await use(connection, user_id, proof)
        inside.set()
        return used

    monkeypatch.setattr(second_factors, "_used_up", met)
    completing = asyncio.create_task(client.complete(challenge, phone.code()))
    await first.wait()
    disabling = asyncio.create_task(client.disable(phone.session.access_token, phone.code(1)))
    session, _ = await asyncio.gather(completing, disabling)
    assert session.user.id == phone.session.user.id
    assert not (await client.totp(session.access_token)).enabled
