"""Identities linked to accounts."""

import asyncio
import uuid

import pytest

from .test_oidc import Someone
from .world import address, refusal


@pytest.fixture
def someone(client, issuer, clock):
    return lambda **claims: Someone(client, issuer, clock, **claims)


async def test_link_list_sign_in_unlink(client, someone, clock):
    session, who = await client.sign_up(address()), someone(email="shown@example.org")
    linked = await client.link(session.access_token, *await who.token())
    assert (linked.provider, linked.email) == ("local", "shown@example.org")
    clock.pass_by(minutes=1)
    assert (await who.sign_in()).user == session.user
    (listed,) = await client.identities(session.access_token)
    assert listed.id == linked.id
    assert (listed.last_use_time.ToDatetime() - listed.create_time.ToDatetime()).total_seconds() == 60
    await client.unlink(session.access_token, linked.id)
    assert await client.identities(session.access_token) == []
    assert (await who.sign_in()).user != session.user


async def test_linking_again_changes_nothing(client, someone):
    session, who = await client.sign_up(address()), someone()
    first = await client.link(session.access_token, *await who.token())
    assert await client.link(session.access_token, *await who.token()) == first


async def test_one_of_somebody_else_is_taken(client, someone):
    one, other, who = await client.sign_up(address()), await client.sign_up(address()), someone()
    await client.link(one.access_token, *await who.token())
    assert await refusal(client.link(other.access_token, *await who.token())) == "IDENTITY_TAKEN"
    assert (await who.sign_in()).user == one.user


async def test_linking_needs_a_living_session_and_a_token_that_holds(client, someone):
    session, who = await client.sign_up(address()), someone()
    token, nonce = await who.token(aud="another")
    assert await refusal(client.link(session.access_token, token, nonce)) == "INVALID_ID_TOKEN"
    await client.sign_out(session.access_token)
    assert await refusal(client.link(session.access_token, *await who.token())) == "UNAUTHENTICATED"
    assert await refusal(client.unlink(session.access_token, str(uuid.uuid4()))) == "UNAUTHENTICATED"
    assert await refusal(client.identities(session.access_token)) == "UNAUTHENTICATED"


async def test_an_account_without_an_e_mail_takes_over_a_vouched_one(client, someone, rows):
    session, email = await client.guest(), address()
    await client.upgrade(session.access_token, address())  # what is only claimed gives way
    await client.link(session.access_token, *await someone(email=email, email_verified=True).token())
    assert (await client.me(session.access_token)).email == email
    assert await rows("SELECT email_verified_at IS NOT NULL FROM auth.users WHERE email = :email", email=email) == [
        (True,)
    ]


async def test_a_repeated_link_makes_up_for_a_death_before_the_e_mail_was_taken_over(client, someone, rows):
    session, email = await client.guest(), address()
    who = someone(email=email, email_verified=True)
    await client.link(session.access_token, *await who.token())
    await rows(
        "UPDATE auth.users SET email = NULL, email_verified_at = NULL WHERE email = :email RETURNING id", email=email
    )
    await client.link(session.access_token, *await who.token())
    assert (await client.me(session.access_token)).email == email


async def test_it_does_not_take_over_what_is_taken_or_not_vouched_for(client, someone):
    owner, session = await client.sign_up(address()), await client.guest()
    await client.link(session.access_token, *await someone(email=owner.user.email, email_verified=True).token())
    await client.link(session.access_token, *await someone(email=address()).token())
    assert (await client.me(session.access_token)).email == ""
    assert len(await client.identities(session.access_token)) == 2


async def test_the_last_way_in_stays(client, someone):
    session = await someone().sign_in()
    (only,) = await client.identities(session.access_token)
    assert await refusal(client.unlink(session.access_token, only.id)) == "FAILED_PRECONDITION"
    other = await client.link(session.access_token, *await someone().token())
    await client.unlink(session.access_token, only.id)
    assert await refusal(client.unlink(session.access_token, other.id)) == "FAILED_PRECONDITION"


async def test_an_identity_of_a_provider_that_is_gone_lets_nobody_in(client, someone, rows):
    session = await someone().sign_in()
    (only,) = await client.identities(session.access_token)
    await client.link(session.access_token, *await someone().token())
    statement = (
        "UPDATE auth.identities SET issuer = 'https://gone.example.org' WHERE user_id = :user AND id <> :id RETURNING 1"
    )
    await rows(statement, user=uuid.UUID(session.user.id), id=uuid.UUID(only.id))
    assert await refusal(client.unlink(session.access_token, only.id)) == "FAILED_PRECONDITION"


async def test_of_all_ways_unlinked_at_once_one_stays(client, someone):
    """Each could take another one for the way that remains."""
    for _ in range(5):
        session = await someone().sign_in()
        for _ in range(4):
            await client.link(session.access_token, *await someone().token())
        linked = await client.identities(session.access_token)
        await asyncio.gather(*(client.unlink(session.access_token, one.id) for one in linked), return_exceptions=True)
        assert len(await client.identities(session.access_token)) == 1


async def test_somebody_elses_is_not_found(client, someone):
    one, other = await client.sign_up(address()), await client.sign_up(address())
    linked = await client.link(one.access_token, *await someone().token())
    assert await refusal(client.unlink(other.access_token, linked.id)) == "NOT_FOUND"
    assert len(await client.identities(one.access_token)) == 1


async def test_twenty_are_enough(client, someone, rows):
    session = await client.sign_up(address())
    await rows(
        "INSERT INTO auth.identities (id, user_id, provider, issuer, subject, linked_at, last_used_at)"
        " SELECT gen_random_uuid(), :user, 'x', 'x', gen_random_uuid()::text, now(), now() FROM generate_series(1, 20) RETURNING 1",
        user=uuid.UUID(session.user.id),
    )
    assert await refusal(client.link(session.access_token, *await someone().token())) == "FAILED_PRECONDITION"


async def test_identities_go_with_their_account(client, someone, rows):
    session = await someone().sign_in()
    user = uuid.UUID(session.user.id)
    await rows("DELETE FROM auth.users WHERE id = :user RETURNING 1", user=user)
    assert await rows("SELECT count(*) FROM auth.identities WHERE user_id = :user", user=user) == [(0,)]
