"""Billing is told of every account that has proved an address, by a hash, until it has heard."""

import pytest
from parley_auth.repository import Repository
from parley_auth.welcomes import Welcomes, proof_of
from parley_kit.errors import Unavailable

from .test_oidc import Someone
from .world import address


class Billing:
    """Stands for billing: away, or writes down what it is told."""

    def __init__(self):
        self.away, self.told = False, []

    async def welcome(self, user_id, proof):
        if self.away:
            raise Unavailable("away")
        self.told.append((str(user_id), proof))
        return True


@pytest.fixture
def billing():
    return Billing()


@pytest.fixture
def told(billing, engine, clock):
    """Drive, and return the proofs that billing was told of a user."""
    welcomes = Welcomes(Repository(engine), billing, clock=clock)

    async def drive(session):
        clock.pass_by(seconds=1)
        await welcomes.drive()
        return [proof for user, proof in billing.told if user == session.user.id]

    return drive


async def test_nobody_is_welcomed_who_has_proved_nothing(client, told):
    guest, claimed = await client.guest(), await client.sign_up_only(address())
    await client.upgrade(guest.access_token, address())
    assert await told(guest) == await told(claimed) == []


async def test_whoever_proves_an_address_is_welcomed_once(client, told, clock):
    session = await client.sign_up(address())
    assert await told(session) == [proof_of(session.user.email)]
    await client.change_password(session.access_token)
    clock.pass_by(days=1)
    assert len(await told(session)) == 1


async def test_a_guest_who_proves_one_is_welcomed(client, mailbox, told):
    guest, email = await client.guest(), address()
    await client.upgrade(guest.access_token, email)
    await client.verify_email(guest.access_token, await mailbox(email))
    assert await told(guest) == [proof_of(email)]


async def test_who_comes_with_a_vouched_e_mail_is_welcomed_and_who_links_one(client, issuer, clock, told):
    made = await Someone(client, issuer, clock, email=address(), email_verified=True).sign_in()
    assert await told(made) == [proof_of(made.user.email)]
    unvouched = await Someone(client, issuer, clock, email=address(), email_verified=False).sign_in()
    assert await told(unvouched) == []
    guest, email = await client.guest(), address()
    await client.link(
        guest.access_token, *await Someone(client, issuer, clock, email=email, email_verified=True).token()
    )
    assert await told(guest) == [proof_of(email)]


async def test_billing_is_told_until_it_has_heard(client, billing, told, clock):
    session = await client.sign_up(address())
    billing.away = True
    for _ in range(3):
        assert await told(session) == []
    billing.away = False
    clock.pass_by(seconds=60)
    assert await told(session) == [proof_of(session.user.email)]


async def test_a_deleted_account_is_not_told_any_more(client, told):
    session = await client.sign_up(address())
    await client.delete_me(session.access_token)
    assert await told(session) == []


async def test_spellings_of_one_mailbox_are_one_proof():
    assert len({proof_of(email) for email in ("A.b+c@gmail.com", "ab@googlemail.com", "a.b@Gmail.com")}) == 1
    assert len({proof_of(email) for email in ("a.b+1@example.org", "a.b+2@example.org", "a.b@example.org")}) == 1
    assert proof_of("ab@example.org") != proof_of("a.b@example.org") != proof_of("a.b@example.com")
    assert proof_of("+a@example.org") != proof_of("+b@example.org")
