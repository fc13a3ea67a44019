import asyncio
import json
import socket
from contextlib import ExitStack

from .shape import error
from .upstreams import BIG_DELTA

STREAM = "/v1/conversations/c/messages:stream"
UNARY = "/v1/conversations/c/messages"
COMPLETIONS = "/v1/chat/completions"
SLOW_READERS = 6


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


async def test_readers_who_do_not_read_hold_back_nobody(edge, proxy, bearer, messages):
    """With Envoy's default windows a few of them fill the connection to the service, and everybody else waits."""
    host, port = proxy.edge.removeprefix("http://").split(":")
    body = b'{"content":"endless"}'
    head = f"POST {STREAM} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    request = f"{head}authorization: {bearer['authorization']}\r\n\r\n".encode() + body
    with ExitStack() as open_sockets:
        for _ in range(SLOW_READERS):
            reader = open_sockets.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else the kernel reads megabytes for it
            reader.connect((host, int(port)))
            reader.sendall(request)
        async with asyncio.timeout(60):
            sent = -1
            while sent != messages.sent or sent < SLOW_READERS:  # until nothing moves any more
                sent = messages.sent
                await asyncio.sleep(0.5)
        assert sent * len(BIG_DELTA) < SLOW_READERS * 16 * 2**20  # what is held for them is bounded, kernel included
        for _ in range(20):
            answer = await edge.post(UNARY, json={"content": "hello"}, headers=bearer, timeout=10)
            assert answer.status_code == 200


async def test_http_bodies_pass_byte_for_byte(edge, bearer):
    body = b'{ "model":"m",  "unknown": [1.50, null] }'
    answer = await edge.post(COMPLETIONS, content=body, headers=bearer)
    assert (answer.content, answer.headers["content-type"]) == (body, "application/json")
    answer = await edge.post(COMPLETIONS, content=b'{"stream":true}', headers=bearer)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.content == b'data: {"stream":true}\n\ndata: [DONE]\n\n'


async def test_http_bodies_over_1_mib(edge, bearer):
    error(await edge.post(COMPLETIONS, content=b"x" * (2**20 + 1), headers=bearer), 413, "PAYLOAD_TOO_LARGE")
