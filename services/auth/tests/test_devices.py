"""The list of sessions, and signing out."""

import asyncio
import datetime as dt
import uuid

import pytest
from parley_kit.errors import ParleyError

from .world import address, refusal


@pytest.fixture
async def devices(client, clock):
    """Three signed-in devices of one account, oldest first."""
    email = address()
    made = [await client.sign_up(email, device_name="phone")]
    for name in ("tablet", "desk"):
        clock.pass_by(seconds=1)
        made.append(await client.sign_in(email, device_name=name))
    return made


async def listed(client, session, **page):
    return (await client.list(session.access_token, **page)).sessions


async def test_the_list_says_device_times_and_which_is_this_one(client, clock, devices):
    phone, tablet, _ = devices
    phone_began = clock.now - dt.timedelta(seconds=2)
    clock.pass_by(minutes=10)
    await client.refresh(phone.refresh_token)
    found = await listed(client, tablet)
    assert [(session.device_name, session.current) for session in found] == [
        ("desk", False),
        ("tablet", True),
        ("phone", False),
    ]
    assert found[2].create_time.ToDatetime(dt.UTC) == phone_began
    assert found[2].last_use_time.ToDatetime(dt.UTC) == clock.now
    assert found[1].last_use_time == found[1].create_time


async def test_a_device_without_a_name_goes_by_its_user_agent(client):
    session = await client.sign_up(address(), device_name="  ")
    (found,) = await listed(client, session)
    assert found.device_name.startswith("grpc-python")


@pytest.mark.parametrize("name", ["x" * 101, "nul\0", "two\nlines", "\x7f", "\x85"])
async def test_bad_device_names_are_named(client, name):
    for call in (client.sign_up(address(), device_name=name), client.sign_in(address(), device_name=name)):
        with pytest.raises(ParleyError) as refused:
            await call
        assert refused.value.code == "INVALID_ARGUMENT"
        assert [error.field for error in refused.value.fields] == ["deviceName"]


async def test_device_names_of_every_script(client):
    email = address()
    session = await client.sign_up(email)
    for name in ("Zoës Handy", "手机", "📱 " + "x" * 90):
        await client.sign_in(email, device_name=name)
        assert (await listed(client, session))[0].device_name == name


async def test_pages(client):
    email = address()
    session = await client.sign_up(email, device_name="0")
    for number in range(1, 5):
        await client.sign_in(email, device_name=str(number))
    names, token, sizes = [], "", []
    while True:
        page = await client.list(session.access_token, page_size=2, page_token=token)
        names += [found.device_name for found in page.sessions]
        sizes.append(len(page.sessions))
        if not (token := page.next_page_token):
            break
    assert (names, sizes) == (["4", "3", "2", "1", "0"], [2, 2, 1])
    assert len((await client.list(session.access_token, page_size=5)).sessions) == 5
    assert (await client.list(session.access_token, page_size=5)).next_page_token == ""


@pytest.mark.parametrize(
    ("page", "field"),
    [
        ({"page_size": -1}, "pageSize"),
        ({"page_size": 101}, "pageSize"),
        ({"page_token": "nonsense"}, "pageToken"),
        ({"page_token": "WyJubyBpZCJd"}, "pageToken"),  # ["no id"]
        ({"page_token": "x" * 513}, "pageToken"),
    ],
)
async def test_bad_pages_are_named(client, page, field):
    session = await client.sign_up(address())
    with pytest.raises(ParleyError) as refused:
        await client.list(session.access_token, **page)
    assert (refused.value.code, [error.field for error in refused.value.fields]) == ("INVALID_ARGUMENT", [field])


async def test_expired_sessions_are_not_listed(client, clock):
    email = address()
    await client.sign_out((await client.sign_up(email)).access_token)
    clock.pass_by(days=-31)
    phone = await client.sign_in(email, device_name="phone")
    await client.sign_in(email, device_name="forgotten")
    for days in (29, 2):
        clock.pass_by(days=days)
        phone = await client.refresh(phone.refresh_token)
    assert [found.device_name for found in await listed(client, phone)] == ["phone"]


async def test_one_device_is_signed_out_from_another(client, devices):
    phone, tablet, desk = devices
    found = {session.device_name: session.id for session in await listed(client, desk)}
    await client.delete(desk.access_token, found["phone"])
    assert await refusal(client.refresh(phone.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert [session.device_name for session in await listed(client, desk)] == ["desk", "tablet"]
    assert await refusal(client.delete(desk.access_token, found["phone"])) == "NOT_FOUND"
    await client.refresh(tablet.refresh_token)


async def test_somebody_elses_session_is_not_found(client, devices):
    other = await client.sign_up(address())
    (theirs,) = await listed(client, other)
    assert await refusal(client.delete(devices[0].access_token, theirs.id)) == "NOT_FOUND"
    assert await refusal(client.delete(devices[0].access_token, str(uuid.uuid4()))) == "NOT_FOUND"
    await client.refresh(other.refresh_token)
    assert {session.device_name for session in await listed(client, devices[0])} == {"phone", "tablet", "desk"}


async def test_a_session_that_is_no_id_is_named(client, devices):
    with pytest.raises(ParleyError) as refused:
        await client.delete(devices[0].access_token, "phone")
    assert [error.field for error in refused.value.fields] == ["id"]


async def test_signing_out_ends_this_device_only_and_twice_is_harmless(client, devices):
    phone, tablet, _ = devices
    for _ in range(2):
        await client.sign_out(phone.access_token)
    assert await refusal(client.refresh(phone.refresh_token)) == "INVALID_REFRESH_TOKEN"
    await client.refresh(tablet.refresh_token)


async def test_signing_out_everywhere(client, devices):
    other = await client.sign_up(address())
    await client.sign_out_all(devices[1].access_token)
    for session in devices:
        assert await refusal(client.refresh(session.refresh_token)) == "INVALID_REFRESH_TOKEN"
    await client.refresh(other.refresh_token)
    await client.sign_in(devices[0].user.email)


async def test_a_signed_out_device_sees_and_ends_nothing_with_the_access_token_it_has_left(client, devices):
    phone, tablet, desk = devices
    await client.sign_out(phone.access_token)
    (tablet_id,) = (found.id for found in await listed(client, desk) if found.device_name == "tablet")
    for call in (
        client.list(phone.access_token),
        client.delete(phone.access_token, tablet_id),
        client.sign_out_all(phone.access_token),
        client.change_password(phone.access_token),
    ):
        assert await refusal(call) == "UNAUTHENTICATED"
    await client.refresh(tablet.refresh_token)
    await client.sign_in(phone.user.email)


async def test_these_calls_need_a_devices_token(client, tokens, clock):
    someone = str(uuid.uuid4())
    for token in (None, tokens.issue("service:chat", "service", clock()), tokens.issue(someone, "user", clock())):
        for call in (
            client.list(token),
            client.delete(token, someone),
            client.sign_out(token),
            client.sign_out_all(token),
            client.change_password(token),
        ):
            assert await refusal(call) == "UNAUTHENTICATED"


async def test_a_token_of_another_users_session_opens_nothing(client, tokens, clock, devices):
    """`sub` and `sid` must belong together, whoever signed them together."""
    other = await client.sign_up(address())
    (theirs,) = await listed(client, other)
    mixed = tokens.issue(devices[0].user.id, "user", clock(), uuid.UUID(theirs.id))
    assert await refusal(client.list(mixed)) == "UNAUTHENTICATED"
    await client.sign_out(mixed)
    await client.refresh(other.refresh_token)


async def test_renewing_and_signing_out_at_once_leaves_nothing_alive(client, rows):
    for _ in range(10):
        session = await client.sign_up(address())
        racers = [client.refresh(session.refresh_token) for _ in range(5)]
        answers = await asyncio.gather(*racers, client.sign_out(session.access_token), return_exceptions=True)
        for answer in answers[:-1]:
            if not isinstance(answer, BaseException):
                assert await refusal(client.refresh(answer.refresh_token)) == "INVALID_REFRESH_TOKEN"
        alive = "SELECT count(*) FROM auth.sessions WHERE user_id = :id AND revoked_at IS NULL"
        assert await rows(alive, id=uuid.UUID(session.user.id)) == [(0,)]
