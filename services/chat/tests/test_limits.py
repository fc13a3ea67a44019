"""What one user may have at once."""

import asyncio
import time
import uuid

import pytest
import sqlalchemy as sa
import time_machine
from parley_chat.clients import PlanLimits
from parley_chat.errors import TooManyGenerations, TooManyTokens
from parley_chat.generation import Sampling, State, Turn
from parley_chat.plans import CachedPlans
from parley_chat.sending import CompletionAsk
from parley_kit.errors import Unavailable

from .fakes import MODEL, OTHER_MODEL, FakePlans
from .world import somebody, text

MOST = 4


@pytest.fixture
def slow(chat):
    """Engines that write when they are told to."""
    chat.llm.gate = asyncio.Semaphore(0)
    return chat


async def unfinished(chat, user):
    ((count,),) = await chat.sql(
        "SELECT count(*) FROM chat.generations WHERE user_id = :user AND state IN ('ADMITTING', 'RUNNING')", user=user
    )
    return count


async def test_a_hundred_starts_at_once_are_as_many_answers_as_a_user_may_have(slow, user):
    other = slow.other()
    conversations = [await slow.conversation(user) for _ in range(100)]
    async with other.living():
        replicas = [slow, other] * 50
        sent = [replica.send(user, one) for replica, one in zip(replicas, conversations, strict=True)]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        started = [answer for answer in answers if isinstance(answer, uuid.UUID)]
        refused = [answer for answer in answers if isinstance(answer, TooManyGenerations)]
        assert (len(started), len(refused)) == (MOST, 100 - MOST)
        assert await unfinished(slow, user) == MOST
        assert slow.billing.calls == ["place"] * MOST  # refused before anything costs
        assert len([one for one in conversations if await slow.messages(user, one)]) == MOST


async def test_starts_that_are_not_committed_yet_count(slow, user):
    """The index decides where no look could: the others' starts are seen by nobody yet."""
    conversation = await slow.conversation(user)
    async with slow.engine.connect() as another, another.begin() as others:
        await another.execute(
            sa.text(
                "INSERT INTO chat.generations (id, user_id, slot, fingerprint, model, price_version,"
                " input_price_micros, output_price_micros, state, lease_expires_at)"
                " SELECT gen_random_uuid(), :user, slot, '', 'm', 1, 0, 0, 'ADMITTING', now() + interval '1 min'"
                " FROM generate_series(0, :last) AS slot"
            ),
            {"user": user, "last": MOST - 1},
        )
        sending = asyncio.create_task(slow.send(user, conversation))
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%unfinished AS%'"
        async with asyncio.timeout(20):
            while not (sending.done() or await slow.sql(waits)):
                await asyncio.sleep(0.01)
        await others.commit()
    with pytest.raises(TooManyGenerations):
        await sending


async def test_the_refusal_says_what_the_limit_is(slow, user):
    for _ in range(MOST):
        await slow.send(user, await slow.conversation(user))
    with pytest.raises(TooManyGenerations) as refused:
        await slow.send(user, await slow.conversation(user))
    assert (refused.value.code, refused.value.limit) == ("RATE_LIMITED", MOST)
    assert refused.value.retry_after >= 1


async def test_both_edges_share_the_limit_and_users_do_not(slow, user):
    ask = CompletionAsk((Turn("user", "hello"),), "", Sampling(), "max_tokens")
    for _ in range(MOST - 1):
        await slow.send(user, await slow.conversation(user))
    await slow.sender.complete(user, ask)
    with pytest.raises(TooManyGenerations):
        await slow.sender.complete(user, ask)
    with pytest.raises(TooManyGenerations):
        await slow.send(user, await slow.conversation(user))
    assert await slow.sender.complete(somebody(), ask)


async def test_an_end_makes_room(slow, user):
    running = [await slow.send(user, await slow.conversation(user)) for _ in range(MOST)]
    await slow.manager.cancel(running[1])
    await slow.events(running[1])
    again = await slow.send(user, await slow.conversation(user))
    assert await unfinished(slow, user) == MOST
    for _ in range(1000):
        slow.llm.gate.release()
    assert text(await slow.events(again))


async def test_the_same_request_again_is_no_more_than_one(slow, user):
    conversations = [await slow.conversation(user) for _ in range(MOST)]
    first = [await slow.send(user, one, request_id=str(one)) for one in conversations]
    assert [await slow.send(user, one, request_id=str(one)) for one in conversations] == first


async def test_a_refused_hold_and_an_absent_engine_give_the_slot_back(chat, user):
    chat.billing.poor = True
    for _ in range(MOST + 1):
        with pytest.raises(Exception, match="too poor"):
            await chat.send(user, await chat.conversation(user))
    chat.billing.poor = False
    for _ in range(MOST + 1):
        await chat.say(user, await chat.conversation(user))
    assert await unfinished(chat, user) == 0


async def test_answers_from_before_the_limit_have_no_slot_and_disturb_nobody(slow, user):
    for _ in range(MOST):
        await slow.send(user, await slow.conversation(user))
    await slow.sql("UPDATE chat.generations SET slot = NULL WHERE user_id = :user", user=user)
    assert await slow.send(user, await slow.conversation(user))
    states = await slow.sql("SELECT DISTINCT state FROM chat.generations WHERE user_id = :user", user=user)
    assert states == [(State.RUNNING,)]


async def test_a_plan_gives_more_answers_at_once_and_never_fewer(slow, user):
    few, many = somebody(), somebody()
    slow.plans.plans = {few: PlanLimits(max_generations=MOST - 1), many: PlanLimits(max_generations=MOST + 2)}
    for one, most in ((user, MOST), (few, MOST), (many, MOST + 2)):
        for _ in range(most):
            await slow.send(one, await slow.conversation(one))
        with pytest.raises(TooManyGenerations) as refused:
            await slow.send(one, await slow.conversation(one))
        assert refused.value.limit == most


async def test_what_a_plan_gave_counts_when_it_is_over(slow, user):
    slow.plans.plans = {user: PlanLimits(max_generations=MOST + 2)}
    running = [await slow.send(user, await slow.conversation(user)) for _ in range(MOST + 2)]
    slow.plans.plans = {}
    slots = dict(await slow.sql("SELECT slot, id FROM chat.generations WHERE user_id = :user", user=user))
    for slot in (0, 1, 2):  # as many run as everybody may have, and then one less
        with pytest.raises(TooManyGenerations):
            await slow.send(user, await slow.conversation(user))
        await slow.manager.cancel(slots[slot])
        await slow.events(slots[slot])
    assert await slow.send(user, await slow.conversation(user))
    assert await unfinished(slow, user) == MOST
    assert set(running) == set(slots.values())


ANSWER = 7 + 10  # what one of the fake engine's answers counts


async def refused_tokens(call):
    with pytest.raises(TooManyTokens) as refused:
        await call
    return refused.value


async def age(chat, user, *seconds):
    """Let the user's answers have ended so long ago, the first one first."""
    ids = await chat.sql("SELECT id FROM chat.generations WHERE user_id = :user ORDER BY created_at", user=user)
    for (generation,), ago in zip(ids, seconds, strict=True):
        await chat.sql(
            "UPDATE chat.generations SET ended_at = now() - make_interval(secs => :ago) WHERE id = :id",
            ago=ago,
            id=generation,
        )


async def test_a_minutes_tokens_are_limited_by_what_was_counted(chat, user):
    chat.registry.tokens_per_minute = 3 * ANSWER
    for _ in range(3):
        await chat.say(user, await chat.conversation(user))
    chat.billing.calls.clear()
    refused = await refused_tokens(chat.send(user, conversation := await chat.conversation(user)))
    assert (refused.code, refused.limit, refused.metadata) == ("RATE_LIMITED", 3 * ANSWER, {"model": MODEL})
    assert 1 <= refused.retry_after <= 60
    assert await chat.messages(user, conversation) == []
    assert (chat.billing.calls, await unfinished(chat, user)) == ([], 0)
    ask = CompletionAsk((Turn("user", "hello"),), "", Sampling(), "max_tokens")
    await refused_tokens(chat.sender.complete(user, ask))
    await chat.say(other := somebody(), await chat.conversation(other))
    await chat.say(user, await chat.conversation(user, model=OTHER_MODEL))


async def test_a_plan_gives_a_model_s_tokens_times_so_many(chat, user):
    chat.registry.tokens_per_minute = ANSWER
    chat.plans.plans = {user: PlanLimits(tokens_per_minute_factor=3)}
    for one, most in ((user, 3), (somebody(), 1)):
        for _ in range(most):
            await chat.say(one, await chat.conversation(one))
        assert (await refused_tokens(chat.send(one, await chat.conversation(one)))).limit == most * ANSWER


async def test_a_plan_is_asked_for_once_in_a_while(user):
    asked = FakePlans()
    asked.plans = {user: PlanLimits(4, 8)}
    with time_machine.travel(0, tick=False):
        plans = CachedPlans(asked, seconds=60, timer=time.time)
        for _ in range(3):
            assert await plans.limits(user) == PlanLimits(4, 8)
        asked.plans = {}
    with time_machine.travel(59, tick=False):
        assert await plans.limits(user) == PlanLimits(4, 8)
    with time_machine.travel(61, tick=False):
        assert await plans.limits(user) == PlanLimits()
    assert asked.calls == [user, user]


async def test_an_untold_plan_is_what_everybody_has_and_is_asked_for_again(user):
    asked = FakePlans()
    asked.plans, asked.fault = {user: PlanLimits(4, 8)}, Unavailable("away")
    plans = CachedPlans(asked, seconds=60)
    assert await plans.limits(user) == PlanLimits()
    asked.fault = None
    assert await plans.limits(user) == PlanLimits(4, 8)


async def test_retry_after_is_when_the_window_has_room(chat, user):
    chat.registry.tokens_per_minute = 2 * ANSWER
    for _ in range(2):
        await chat.say(user, await chat.conversation(user))
    await age(chat, user, 45, 5)
    assert 13 <= (await refused_tokens(chat.send(user, await chat.conversation(user)))).retry_after <= 15
    chat.registry.tokens_per_minute = ANSWER  # the younger one fills it alone
    assert 53 <= (await refused_tokens(chat.send(user, await chat.conversation(user)))).retry_after <= 55
    await age(chat, user, 70, 61)
    assert await chat.say(user, await chat.conversation(user))


async def test_a_running_answer_counts_as_far_as_it_is_written(slow, user):
    slow.llm.length = 40
    slow.registry.tokens_per_minute = 20
    await slow.send(user, await slow.conversation(user))
    await slow.send(user, await slow.conversation(user))  # nothing to speak of is written yet
    for _ in range(40):
        slow.llm.gate.release()
    written = "SELECT 1 FROM chat.generations WHERE user_id = :user AND output_tokens >= 15"
    async with asyncio.timeout(20):
        while not await slow.sql(written, user=user):
            await asyncio.sleep(0.01)
    assert (await refused_tokens(slow.send(user, await slow.conversation(user)))).retry_after == 60


async def test_no_limit_is_none(chat, user):
    chat.registry.tokens_per_minute = 0
    for _ in range(3):
        await chat.say(user, await chat.conversation(user))


async def test_deleting_gives_no_tokens_back_and_keeps_no_words(chat, user):
    chat.registry.tokens_per_minute = ANSWER
    conversation = await chat.conversation(user)
    await chat.say(user, conversation, request_id="r")
    await chat.conversations.delete(user, conversation)
    kept = "SELECT text, delta_lengths, request_id, conversation_id FROM chat.generations WHERE user_id = :user"
    assert await chat.sql(kept, user=user) == [("", b"", None, None)]
    await refused_tokens(chat.send(user, await chat.conversation(user), request_id="r"))
