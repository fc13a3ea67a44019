"""What the streaming answers share."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog
from parley.chat.v1.message_stream_pb2 import MessageStreamEvent

from parley_chat import convert
from parley_chat.event_log import Event, EventLog

_log = structlog.get_logger()
# Envoy makes these response headers. The last one is what the AI SDK knows its protocol by.
STREAM_HEADERS: Final = (
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
    ("x-vercel-ai-ui-message-stream", "v1"),
)


async def told(events: AsyncGenerator[tuple[Event, EventLog]]) -> AsyncGenerator[MessageStreamEvent]:
    """Yield the events as messages. A fault after the first is told in the stream: a status would be lost on HTTP/1.1."""
    last: EventLog | None = None
    async with aclosing(events):
        try:
            async for event, log in events:
                last = log
                yield convert.to_event(event, log)
        except Exception:  # whatever it is: it is told in the stream, where a status would come too late
            if last is None:
                raise
            _log.exception("stream broke", generation_id=str(last.generation_id))
            for message in convert.broken_off(last):
                yield message
