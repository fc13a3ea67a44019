"""The log of an answer: every reader gets the same text, whenever it comes and wherever it stopped."""

import asyncio
import uuid

from hypothesis import given
from hypothesis import strategies as st
from parley_chat.event_log import EventLog
from parley_chat.generation import Ending, FinishReason, State, Usage
from parley_chat.lengths import pack_lengths, unpack_lengths

END = Ending(State.COMPLETE, FinishReason.STOP, Usage(1, 2))


@given(st.lists(st.integers(min_value=0, max_value=2**40)))
def test_lengths_come_back(lengths):
    assert unpack_lengths(pack_lengths(lengths)) == tuple(lengths)


def log_of(deltas, branches=()):
    return EventLog(uuid.uuid4(), uuid.uuid4(), "m", deltas=deltas, branches=branches)


@given(st.lists(st.text(min_size=1, max_size=3), max_size=12), st.data())
def test_a_reader_may_stop_anywhere_and_gets_the_rest(deltas, data):
    log = log_of(deltas)
    log.finish(END)
    first = []
    for event in log.ready(0):
        first.append(event)
        if data.draw(st.booleans()):
            break
    rest = log.ready(first[-1].seq)
    assert "".join(event.text for event in first + rest) == "".join(deltas)
    kinds = [event.kind for event in first + rest]
    assert kinds[0] == "start"
    assert kinds[-1] == "finish"
    assert len(kinds) == len(set(kinds))


async def test_a_slow_reader_gets_what_is_ready_as_one():
    log = log_of([])
    reader = log.listen(0, heartbeat=15)
    assert [(await anext(reader)).kind for _ in range(2)] == ["start", "text-start"]
    for word in ("a", "b", "c"):
        log.append(word)
    event = await anext(reader)
    assert (event.text, event.seq) == ("abc", 5)


async def test_silence_is_a_heartbeat():
    log = log_of([])
    reader = log.listen(2, heartbeat=0.001)
    assert (await anext(reader)).kind == "data-heartbeat"
    waiting = asyncio.create_task(anext(reader))
    log.append("a")
    async with asyncio.timeout(10):
        while (event := await waiting).kind != "text-delta":
            waiting = asyncio.create_task(anext(reader))
    assert event.text == "a"


def test_numbers_of_a_lost_branch_begin_anew():
    log = log_of(["a", "b"], branches=[1])  # taken over after one delta
    assert log.ready(5)[0].kind == "start"  # the third delta of the dead replica was event 5
    assert [event.text for event in log.ready(3)] == ["b"]
    later = log.ready(log.ready(0)[-1].seq)
    assert later == []
