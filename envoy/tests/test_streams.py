import asyncio
import json

from .shape import error
from .upstreams import BIG, BIG_DELTA

STREAM = "/v1/conversations/c/messages:stream"
UNARY = "/v1/conversations/c/messages"
COMPLETIONS = "/v1/chat/completions"
SLOW_READERS = 20


def events(text):
    return [json.loads(block.removeprefix("data: ")) for block in text.split("\n\n") if block]


async def test_typed_events_as_sse(edge, bearer):
    answer = await edge.post(STREAM, json={"content": "hello"}, headers=bearer)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert events(answer.text) == [
        {"type": "start", "seq": 1},
        {"type": "text-delta", "seq": 2, "id": "0", "delta": 'two\nlines and "quotes" — ä'},
        {"type": "finish", "seq": 3, "finishReason": "stop"},
    ]


async def test_an_event_is_sent_at_once_and_a_reader_who_leaves_is_noticed(edge, bearer, messages):
    messages.cancelled.clear()
    async with edge.stream("POST", STREAM, json={"content": "wait"}, headers=bearer) as answer:
        async for line in answer.aiter_lines():
            assert json.loads(line.removeprefix("data: ")) == {"type": "start", "seq": 1}
            break  # the service will not send another one: it came without being followed by anything
        assert not messages.cancelled.is_set()
    async with asyncio.timeout(10):
        await messages.cancelled.wait()


async def test_a_refusal_before_the_first_event_is_a_status(edge, bearer):
    answer = await edge.post(STREAM, json={"content": "fail first"}, headers=bearer)
    assert answer.status_code == 402
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "INSUFFICIENT_CREDITS"


async def test_a_stream_that_is_asked_for_wrongly_is_a_status(edge, bearer):
    error(await edge.post(STREAM, content=b"{", headers=bearer), 400, "INVALID_ARGUMENT")
    error(await edge.post(STREAM, json={"content": "x"}), 401, "UNAUTHENTICATED")
    error(await edge.get(STREAM, headers=bearer), 404, "UNIMPLEMENTED")


async def test_readers_who_do_not_read_hold_back_nobody(edge, bearer):
    """Each opens a stream of 4 MiB and reads one chunk; with Envoy's default windows two of them stop everybody."""
    async with asyncio.TaskGroup() as tasks:
        done = asyncio.Event()
        opened = asyncio.Semaphore(0)

        async def read_slowly():
            async with edge.stream("POST", STREAM, json={"content": "big"}, headers=bearer) as answer:
                chunks = answer.aiter_raw()
                first = await anext(chunks)
                opened.release()
                await done.wait()
                rest = [first] + [chunk async for chunk in chunks]
            assert b"".join(rest).count(BIG_DELTA.encode()) == BIG
            assert b'"finish"' in rest[-1]

        for _ in range(SLOW_READERS):
            tasks.create_task(read_slowly())
        for _ in range(SLOW_READERS):
            await opened.acquire()
        for _ in range(20):
            assert (await edge.post(UNARY, json={"content": "hello"}, headers=bearer)).status_code == 200
        done.set()


async def test_http_bodies_pass_byte_for_byte(edge, bearer):
    body = b'{ "model":"m",  "unknown": [1.50, null] }'
    answer = await edge.post(COMPLETIONS, content=body, headers=bearer)
    assert (answer.content, answer.headers["content-type"]) == (body, "application/json")
    answer = await edge.post(COMPLETIONS, content=b'{"stream":true}', headers=bearer)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.content == b'data: {"stream":true}\n\ndata: [DONE]\n\n'


async def test_http_bodies_over_1_mib(edge, bearer):
    error(await edge.post(COMPLETIONS, content=b"x" * (2**20 + 1), headers=bearer), 413, "PAYLOAD_TOO_LARGE")
