"""Rotation of refresh tokens: lost answers, reuse, races."""

import asyncio
import uuid

import pytest
import sqlalchemy as sa
from parley_auth.repository import Repository
from parley_kit.errors import ParleyError
from parley_kit.testing import serve_in_process
from prometheus_client import REGISTRY

from .world import Client, address, refusal, replica

RACERS = 500


def counted(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0


@pytest.fixture
def living(rows):
    """The hashes of the tokens with which an account can still be renewed."""

    async def of(session):
        return await rows(
            "SELECT t.token_hash FROM auth.refresh_tokens t JOIN auth.sessions s ON s.id = t.session_id"
            " WHERE s.user_id = :id AND t.spent_at IS NULL AND s.revoked_at IS NULL",
            id=uuid.UUID(session.user.id),
        )

    return of


async def test_a_refresh_token_gives_a_successor_that_works(client):
    first = await client.sign_up(address())
    second = await client.refresh(first.refresh_token)
    third = await client.refresh(second.refresh_token)
    assert second.user == first.user
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert len({first.access_token, second.access_token, third.access_token}) == 3
    assert await client.me(third.access_token) == first.user


async def test_a_lost_answer_is_given_again_with_a_fresh_access_token(client, clock, living):
    clock.pass_by(minutes=-1)  # the verifier's clock is the machine's, and refuses tokens of the future
    first = await client.sign_up(address())
    answers = [await client.refresh(first.refresh_token)]
    for _ in range(3):
        clock.pass_by(seconds=19)
        answers.append(await client.refresh(first.refresh_token))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert len({answer.access_token for answer in answers}) == 4
    assert all([await client.me(answer.access_token) == first.user for answer in answers])
    assert len(await living(first)) == 1
    clock.pass_by(days=29)  # whoever waits that long with the successor has not lost it
    await client.refresh(answers[-1].refresh_token)


async def test_every_replica_gives_the_same_successor_again(client, engine, clock, tokens, secrets, passwords):
    first = await client.sign_up(address())
    second = await client.refresh(first.refresh_token)
    other = replica(engine, clock, tokens, secrets, passwords)
    async with serve_in_process(other, tokens) as (channel, _):
        assert (await Client(channel).refresh(first.refresh_token)).refresh_token == second.refresh_token


async def test_after_the_window_reuse_ends_the_session_and_no_other(client, clock, living, capfd):
    email = address()
    first, other = await client.sign_up(email), await client.sign_in(email)
    second = await client.refresh(first.refresh_token)
    reused, ended = counted("parley_auth_refreshes_total", result="reused"), "parley_auth_sessions_ended_total"
    by_reuse = counted(ended, cause="reuse")
    clock.pass_by(seconds=60)
    capfd.readouterr()
    assert await refusal(client.refresh(first.refresh_token)) == "INVALID_REFRESH_TOKEN"
    written = "".join(capfd.readouterr())
    assert "a spent refresh token was presented again" in written
    assert first.refresh_token not in written
    assert await refusal(client.refresh(second.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await refusal(client.refresh(first.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert counted("parley_auth_refreshes_total", result="reused") == reused + 1  # once, however often it comes back
    assert counted(ended, cause="reuse") == by_reuse + 1
    assert len(await living(first)) == 1
    await client.refresh(other.refresh_token)


@pytest.mark.parametrize("generations", [2, 3])
async def test_a_grandparents_token_is_reuse_within_the_window_too(client, living, generations):
    first = await client.sign_up(address())
    latest = first
    for _ in range(generations):
        latest = await client.refresh(latest.refresh_token)
    assert await refusal(client.refresh(first.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await living(first) == []
    assert await refusal(client.refresh(latest.refresh_token)) == "INVALID_REFRESH_TOKEN"


async def test_a_session_that_ended_gives_nothing_again(client):
    first = await client.sign_up(address())
    second = await client.refresh(first.refresh_token)
    await client.sign_out(second.access_token)
    assert await refusal(client.refresh(first.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await refusal(client.refresh(second.refresh_token)) == "INVALID_REFRESH_TOKEN"


async def test_without_a_window_every_repetition_is_reuse(engine, clock, tokens, secrets, passwords, living):
    strict = replica(engine, clock, tokens, secrets, passwords, grace=clock.now - clock.now)
    async with serve_in_process(strict, tokens) as (channel, _):
        client = Client(channel)
        first = await client.sign_up(address())
        await client.refresh(first.refresh_token)
        assert await refusal(client.refresh(first.refresh_token)) == "INVALID_REFRESH_TOKEN"
        assert await living(first) == []


async def test_of_500_racers_all_get_the_same_successor(
    client, other_engine, clock, tokens, secrets, passwords, living
):
    first = await client.sign_up(address())
    before = await living(first)
    other = replica(other_engine, clock, tokens, secrets, passwords)
    async with serve_in_process(other, tokens) as (channel, _):
        replicas = [client, Client(channel)]
        answers = await asyncio.gather(*(replicas[n % 2].refresh(first.refresh_token) for n in range(RACERS)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert len({answer.access_token for answer in answers}) == RACERS
    after = await living(first)
    assert len(after) == 1
    assert after != before
    await client.refresh(answers[0].refresh_token)


async def test_racers_of_two_generations_never_leave_two_living_successors(client, living):
    """The parent is presented again while the successor is being spent: whichever is first, one chain goes on or none."""
    for _ in range(10):
        first = await client.sign_up(address())
        second = await client.refresh(first.refresh_token)
        racers = [client.refresh((first, second)[n % 2].refresh_token) for n in range(20)]
        answers = await asyncio.gather(*racers, return_exceptions=True)
        unexpected = [answer for answer in answers if isinstance(answer, BaseException)]
        assert {error.code for error in unexpected} <= {"INVALID_REFRESH_TOKEN"}
        assert len({answer.refresh_token for answer in answers if not isinstance(answer, BaseException)}) <= 2
        assert len(await living(first)) <= 1


class Dying(Repository):
    """Spends the token and dies before it can say so."""

    async def rotate(self, rotation):
        await super().rotate(rotation)
        raise ConnectionError


async def test_a_process_that_dies_after_spending_logs_nobody_out(client, engine, clock, tokens, secrets, passwords):
    first = await client.sign_up(address())
    dying = replica(engine, clock, tokens, secrets, passwords, repository=Dying)
    async with serve_in_process(dying, tokens) as (channel, _):
        assert await refusal(Client(channel).refresh(first.refresh_token)) == "INTERNAL"
    again = await client.refresh(first.refresh_token)
    await client.refresh(again.refresh_token)


async def test_the_database_itself_allows_one_living_token_a_session(client, rows, engine):
    session = await client.sign_up(address())
    ((session_id,),) = await rows("SELECT id FROM auth.sessions WHERE user_id = :id", id=uuid.UUID(session.user.id))
    with pytest.raises(sa.exc.IntegrityError, match="uq_refresh_tokens_living"):
        async with engine.begin() as connection:
            await connection.execute(
                sa.text(
                    "INSERT INTO auth.refresh_tokens (token_hash, session_id, created_at, expires_at)"
                    " VALUES (:hash, :session, now(), now())"
                ),
                {"hash": b"x" * 32, "session": session_id},
            )


async def test_a_seal_goes_when_its_token_is_used(client, rows):
    first = await client.sign_up(address())
    sealed = "SELECT count(sealed), count(*) FILTER (WHERE sealed IS NOT NULL AND spent_at IS NULL) FROM auth.refresh_tokens t"
    sealed += " JOIN auth.sessions s ON s.id = t.session_id WHERE s.user_id = :id"
    latest = first
    for _ in range(3):
        latest = await client.refresh(latest.refresh_token)
        assert await rows(sealed, id=uuid.UUID(first.user.id)) == [(1, 1)]


@pytest.mark.parametrize("token", ["unknown", "x" * 512, "nul\0", "ä"])
async def test_unknown_refresh_tokens(client, token):
    assert await refusal(client.refresh(token)) == "INVALID_REFRESH_TOKEN"


@pytest.mark.parametrize("token", ["", "x" * 513])
async def test_refresh_tokens_of_impossible_length(client, token):
    with pytest.raises(ParleyError) as refused:
        await client.refresh(token)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert [error.field for error in refused.value.fields] == ["refreshToken"]


async def test_refresh_tokens_expire_unless_they_are_used(client, clock):
    session = await client.sign_up(address())
    for _ in range(3):  # longer in all than one token lives
        clock.pass_by(days=29)
        session = await client.refresh(session.refresh_token)
    clock.pass_by(days=30)
    assert await refusal(client.refresh(session.refresh_token)) == "INVALID_REFRESH_TOKEN"
