import asyncio
import uuid

import pytest
import sqlalchemy as sa
from joserfc import jwt
from joserfc.jwk import KeySet
from parley_kit.db import create_engine

from .world import address, refusal


@pytest.fixture
def operator(tokens, clock):
    return tokens.issue("service:operator", "admin", clock())


@pytest.fixture
async def person(client):
    return await client.sign_up(address())


@pytest.fixture
def role_of(key):
    def read(session):
        return jwt.decode(session.access_token, KeySet([key]), algorithms=["ES256"]).claims["role"]

    return read


async def events_of(client, operator, person):
    return (await client.operate(operator, "ListAuditEvents", target=person.user.id)).events


async def proven(client, rows, email):
    """Sign up and have the address proved, so that signing in works."""
    session = await client.sign_up(email)
    await rows(
        "UPDATE auth.users SET email = :email, claimed_email = NULL, email_verified_at = now() WHERE id = :id RETURNING id",
        email=email, id=uuid.UUID(session.user.id),
    )  # fmt: skip
    return session


async def test_a_role_is_in_the_tokens_from_the_next_renewal_on(client, operator, person, role_of):
    assert role_of(person) == "user"
    account = await client.operate(operator, "SetUserRole", user_id=person.user.id, role="support")
    assert account.role == "support"
    renewed = await client.refresh(person.refresh_token)
    assert role_of(renewed) == "support"
    await client.operate(operator, "SetUserRole", user_id=person.user.id, role="user")
    assert role_of(await client.refresh(renewed.refresh_token)) == "user"


async def test_support_looks_and_does_not_touch(client, operator, person):
    await client.operate(operator, "SetUserRole", user_id=person.user.id, role="support")
    token = (await client.refresh(person.refresh_token)).access_token
    assert (await client.operate(token, "ListUsers")).accounts
    assert (await client.operate(token, "ListUserSessions", user_id=person.user.id)).sessions
    for method in ("SignOutUser", "DisableUser", "EnableUser"):
        assert await refusal(client.operate(token, method, user_id=person.user.id)) == "PERMISSION_DENIED"
    assert await refusal(client.operate(token, "ListAuditEvents")) == "PERMISSION_DENIED"
    itself = client.operate(token, "SetUserRole", user_id=person.user.id, role="admin")
    assert await refusal(itself) == "PERMISSION_DENIED"


async def test_an_admin_who_is_a_person_is_named_in_the_log(client, operator, person):
    await client.operate(operator, "SetUserRole", user_id=person.user.id, role="admin")
    token = (await client.refresh(person.refresh_token)).access_token
    other = await client.sign_up(address())
    await client.operate(token, "SignOutUser", user_id=other.user.id)
    (event,) = await events_of(client, operator, other)
    assert event.actor == person.user.id


async def test_whoever_looks_at_an_account_is_named_in_the_log(client, operator, person):
    await client.operate(operator, "SetUserRole", user_id=person.user.id, role="support")
    token = (await client.refresh(person.refresh_token)).access_token
    other = await client.sign_up(address())
    await client.operate(token, "ListUsers", email=other.user.email)
    await client.operate(token, "ListUserSessions", user_id=other.user.id)
    seen = [(event.action, event.actor) for event in await events_of(client, operator, other)]
    assert seen == [("look_at_sessions", person.user.id), ("look", person.user.id)]


async def test_a_key_of_an_admin_is_no_admin(client, operator, person):
    await client.operate(operator, "SetUserRole", user_id=person.user.id, role="admin")
    session = await client.refresh(person.refresh_token)
    made = await client.create_key(session.access_token, scopes=["chat", "images", "models", "account-read"])
    _, token = await client.check(made.secret)
    assert await refusal(client.operate(token, "ListUsers")) == "PERMISSION_DENIED"


async def test_who_what_whom_why_and_in_which_request(client, operator, person, clock):
    mark = ("x-request-id", "r-42")
    await client.operate(operator, "SetUserRole", mark, user_id=person.user.id, role="support", reason="joined")
    (event,) = await events_of(client, operator, person)
    assert (event.actor, event.action, event.target) == ("service:operator", "set_role", person.user.id)
    assert (event.details, event.reason, event.request_id) == ("user -> support", "joined", "r-42")
    assert event.create_time.ToMicroseconds() == int(clock().timestamp() * 1_000_000)


async def test_what_changes_nothing_is_not_in_the_log(client, operator, person):
    await client.operate(operator, "SetUserRole", user_id=person.user.id, role="user")
    await client.operate(operator, "EnableUser", user_id=person.user.id)
    for _ in range(2):
        await client.operate(operator, "DisableUser", user_id=person.user.id)
    assert [event.action for event in await events_of(client, operator, person)] == ["disable"]


async def test_a_disabled_account_is_out_and_its_keys_too(client, operator, rows, clock):
    email = address()
    person = await proven(client, rows, email)
    made = await client.create_key(person.access_token)
    assert (await client.check(made.secret))[0] == 200
    account = await client.operate(operator, "DisableUser", user_id=person.user.id)
    assert account.HasField("disable_time")
    assert await refusal(client.refresh(person.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await refusal(client.sign_in(email)) == "PERMISSION_DENIED"
    assert await refusal(client.sign_in(email, "wrong password")) == "INVALID_CREDENTIALS"
    assert await refusal(client.create_key(person.access_token)) == "UNAUTHENTICATED"
    clock.pass_by(seconds=5.1)
    assert (await client.check(made.secret))[0] == 401

    account = await client.operate(operator, "EnableUser", user_id=person.user.id)
    assert not account.HasField("disable_time")
    clock.pass_by(seconds=5.1)
    assert (await client.check(made.secret))[0] == 200
    assert (await client.sign_in(email)).access_token


async def test_no_session_survives_however_many_sign_in_meanwhile(client, operator, rows):
    email = address()
    person = await proven(client, rows, email)
    calls = [client.sign_in(email) for _ in range(8)]
    calls.insert(4, client.operate(operator, "DisableUser", user_id=person.user.id))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {getattr(answer, "code", "PERMISSION_DENIED") for answer in answers} == {"PERMISSION_DENIED"}
    living = await rows(
        "SELECT id FROM auth.sessions WHERE user_id = :id AND revoked_at IS NULL", id=uuid.UUID(person.user.id)
    )
    assert living == []


async def test_signing_out_somebody(client, operator, person):
    await client.operate(operator, "SignOutUser", user_id=person.user.id)
    assert await refusal(client.refresh(person.refresh_token)) == "INVALID_REFRESH_TOKEN"
    (event,) = await events_of(client, operator, person)
    assert (event.action, event.details) == ("sign_out", "1 sessions")
    assert not (await client.operate(operator, "ListUserSessions", user_id=person.user.id)).sessions


async def test_finding_somebody(client, operator):
    email = address()
    person = await client.sign_up(email)
    (found,) = (await client.operate(operator, "ListUsers", email=email.upper())).accounts
    assert (found.user.id, found.role) == (person.user.id, "user")
    assert not (await client.operate(operator, "ListUsers", email=address())).accounts


async def test_lists_go_in_pages(client, operator, person):
    for role in ("support", "admin", "user"):
        await client.operate(operator, "SetUserRole", user_id=person.user.id, role=role)
    whole = await events_of(client, operator, person)
    assert [event.details for event in whole] == ["admin -> user", "support -> admin", "user -> support"]
    first = await client.operate(operator, "ListAuditEvents", target=person.user.id, page_size=2)
    rest = await client.operate(
        operator, "ListAuditEvents", target=person.user.id, page_size=2, page_token=first.next_page_token
    )
    assert [*first.events, *rest.events] == list(whole)
    seen, token = [], ""
    while len(seen) < 3:
        page = await client.operate(operator, "ListUsers", page_size=1, page_token=token)
        seen += [account.user.id for account in page.accounts]
        if not (token := page.next_page_token):
            break
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("method", ["ListUserSessions", "SignOutUser", "DisableUser", "EnableUser", "SetUserRole"])
async def test_nobody_is_not_found(client, operator, method):
    more = {"role": "admin"} if method == "SetUserRole" else {}
    assert await refusal(client.operate(operator, method, user_id=str(uuid.uuid4()), **more)) == "NOT_FOUND"


@pytest.mark.parametrize("values", [{"reason": ""}, {"reason": "x" * 501}, {"user_id": "me"}, {"role": "root"}])
async def test_bad_fields_are_named(client, operator, person, values):
    whole = {"user_id": person.user.id, "role": "admin", "reason": "x"} | values
    assert await refusal(client.operate(operator, "SetUserRole", **whole)) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("statement", ["UPDATE auth.audit_log SET reason = ''", "DELETE FROM auth.audit_log"])
async def test_nobody_changes_the_log(client, operator, person, rows, postgres, statement):
    await client.operate(operator, "SignOutUser", user_id=person.user.id)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        await rows(statement)
    owner = create_engine(postgres.owner_url)
    with pytest.raises(sa.exc.IntegrityError, match="immutable"):
        async with owner.begin() as connection:
            await connection.execute(sa.text(statement))
    await owner.dispose()
    assert len(await events_of(client, operator, person)) == 1
