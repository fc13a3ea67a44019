import asyncio
import uuid

import pytest
from parley_auth.repository import Repository
from parley_kit.errors import ParleyError
from parley_kit.testing import serve_in_process

from .world import LIMIT, NEW_PASSWORD, PASSWORD, Client, address, refusal, replica


async def test_the_new_password_is_good_and_the_old_one_is_not(client):
    session = await client.sign_up(address())
    await client.change_password(session.access_token)
    assert await refusal(client.sign_in(session.user.email)) == "INVALID_CREDENTIALS"
    assert (await client.sign_in(session.user.email, NEW_PASSWORD)).user == session.user


async def test_all_other_sessions_end_and_this_one_goes_on(client):
    here = await client.sign_up(address())
    others = [await client.sign_in(here.user.email) for _ in range(2)]
    stranger = await client.sign_up(address())
    await client.change_password(here.access_token)
    for other in others:
        assert await refusal(client.refresh(other.refresh_token)) == "INVALID_REFRESH_TOKEN"
    await client.refresh(here.refresh_token)
    await client.refresh(stranger.refresh_token)


async def test_a_wrong_current_password_is_named_and_changes_nothing(client):
    session = await client.sign_up(address())
    other = await client.sign_in(session.user.email)
    with pytest.raises(ParleyError) as refused:
        await client.change_password(session.access_token, "not the password")
    # No 401: an app would renew its token and try again.
    assert (refused.value.code, refused.value.rule.http_status) == ("INVALID_ARGUMENT", 400)
    assert [error.field for error in refused.value.fields] == ["currentPassword"]
    await client.refresh(other.refresh_token)
    await client.sign_in(session.user.email)


@pytest.mark.parametrize(
    ("current", "new", "field"),
    [
        ("", NEW_PASSWORD, "currentPassword"),
        ("x" * 129, NEW_PASSWORD, "currentPassword"),
        (PASSWORD, "7 chars", "newPassword"),
        (PASSWORD, "", "newPassword"),
        (PASSWORD, "x" * 129, "newPassword"),
    ],
)
async def test_bad_passwords_are_named(client, current, new, field):
    session = await client.sign_up(address())
    with pytest.raises(ParleyError) as refused:
        await client.change_password(session.access_token, current, new)
    assert [error.field for error in refused.value.fields] == [field]


async def test_wrong_current_passwords_count_as_guesses(client):
    session = await client.sign_up(address())
    for number in range(LIMIT):
        guess = client.sign_in(session.user.email, "wrong") if number % 2 else client.change_password(
            session.access_token, "wrong"
        )  # fmt: skip
        assert await refusal(guess) in {"INVALID_ARGUMENT", "INVALID_CREDENTIALS"}
    with pytest.raises(ParleyError) as refused:
        await client.change_password(session.access_token)
    assert (refused.value.code, refused.value.retry_after) == ("RATE_LIMITED", 900)
    await client.refresh(session.refresh_token)  # the device stays signed in


async def test_of_concurrent_changes_one_wins(client):
    session = await client.sign_up(address())
    new = [f"new password {number}" for number in range(5)]
    answers = await asyncio.gather(
        *(client.change_password(session.access_token, PASSWORD, password) for password in new),
        return_exceptions=True,
    )
    won = [password for password, answer in zip(new, answers, strict=True) if not isinstance(answer, BaseException)]
    refused = {answer.code for answer in answers if isinstance(answer, ParleyError)}
    assert len(won) == 1
    assert refused <= {"FAILED_PRECONDITION", "INVALID_ARGUMENT"}  # read before the winner's commit, or after
    await client.sign_in(session.user.email, won[0])


class Paused(Repository):
    """Waits where a sign-in has checked the password and not yet opened the session."""

    reached: asyncio.Event
    go: asyncio.Event

    async def open_session(self, *given):
        self.reached.set()
        await self.go.wait()
        return await super().open_session(*given)


async def test_no_session_begins_with_the_password_that_was_just_replaced(
    client, engine, clock, tokens, secrets, passwords, rows
):
    session = await client.sign_up(address())
    Paused.reached, Paused.go = asyncio.Event(), asyncio.Event()
    slow = replica(engine, clock, tokens, secrets, passwords, repository=Paused)
    async with serve_in_process(slow, tokens) as (channel, _):
        signing_in = asyncio.ensure_future(refusal(Client(channel).sign_in(session.user.email)))
        await Paused.reached.wait()
        await client.change_password(session.access_token)
        Paused.go.set()
        assert await signing_in == "INVALID_CREDENTIALS"
    alive = "SELECT count(*) FROM auth.sessions WHERE user_id = :id AND revoked_at IS NULL"
    assert await rows(alive, id=uuid.UUID(session.user.id)) == [(1,)]


async def test_a_sign_in_that_is_being_stored_is_waited_for_and_ended(client, engine, clock, rows):
    """The sign-in's transaction is open when the change begins: the change must see what it commits."""
    session = await client.sign_up(address())
    user = uuid.UUID(session.user.id)
    async with engine.connect() as connection, connection.begin():
        import sqlalchemy as sa  # noqa: PLC0415

        await connection.execute(sa.text("SELECT id FROM auth.users WHERE id = :id FOR SHARE"), {"id": user})
        changing = asyncio.ensure_future(client.change_password(session.access_token))
        await asyncio.sleep(0.5)
        await connection.execute(
            sa.text(
                "INSERT INTO auth.sessions (id, user_id, created_at, refreshed_at, expires_at)"
                " VALUES (gen_random_uuid(), :user, :now, :now, CAST(:now AS timestamptz) + interval '1 day')"
            ),
            {"user": user, "now": clock()},
        )
        assert not changing.done()
    await changing
    alive = "SELECT count(*) FROM auth.sessions WHERE user_id = :id AND revoked_at IS NULL"
    assert await rows(alive, id=user) == [(1,)]


class Failing(Repository):
    """Loses the connection between the two statements of the change."""

    def __init__(self, engine):
        super().__init__(engine)
        self._engine = Cut(engine)


class Cut:
    def __init__(self, engine):
        self._inner = engine

    def begin(self):
        return CutTransaction(self._inner.begin())


class CutTransaction:
    def __init__(self, inner):
        self._transaction = inner

    async def __aenter__(self):
        self._connection = await self._transaction.__aenter__()
        return self

    async def __aexit__(self, *failure):
        return await self._transaction.__aexit__(*failure)

    async def execute(self, statement, values):
        if "id <> :session_id" in str(statement):
            await self._connection.invalidate()
            raise ConnectionError
        return await self._connection.execute(statement, values)


async def test_a_change_that_dies_half_way_changes_nothing(client, engine, clock, tokens, secrets, passwords):
    here = await client.sign_up(address())
    other = await client.sign_in(here.user.email)
    failing = replica(engine, clock, tokens, secrets, passwords, repository=Failing)
    async with serve_in_process(failing, tokens) as (channel, _):
        assert await refusal(Client(channel).change_password(here.access_token)) == "INTERNAL"
    await client.sign_in(here.user.email)
    await client.refresh(other.refresh_token)
