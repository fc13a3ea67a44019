"""Answers at the OpenAI edge. They belong to their connection: a caller that goes away cancels, and pays what was written."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import structlog
from parley_kit.context import current
from parley_kit.errors import InternalError, ParleyError, Unavailable

from parley_chat import openai_answer
from parley_chat.event_log import EventLog, Kind
from parley_chat.generation import State
from parley_chat.generation_manager import GenerationManager
from parley_chat.openai_answer import DONE, Frame
from parley_chat.openai_request import CompletionRequest
from parley_chat.sending import Sender

_log = structlog.get_logger()
_HEARTBEAT = b": still here\n\n"  # a comment, which every reader of Server-Sent Events skips


class Completions:
    """Starts answers and writes them in OpenAI's words."""

    def __init__(self, sender: Sender, manager: GenerationManager, *, heartbeat_seconds: float) -> None:
        self._sender = sender
        self._manager = manager
        self._heartbeat_seconds = heartbeat_seconds

    @asynccontextmanager
    async def answer(self, user_id: uuid.UUID, asked: CompletionRequest) -> AsyncGenerator[EventLog]:
        """Admit a completion and give its log; leaving before its end cancels it."""
        log = await self._sender.complete(user_id, asked.to_ask())
        try:
            yield log
        finally:
            self._manager.cancel_here(log.generation_id)  # nothing, when it has ended

    async def whole(self, log: EventLog) -> bytes:
        """Wait for the end; return the answer in one document. An answer that failed is an error."""
        async with aclosing(log.listen(0, self._heartbeat_seconds)) as events:
            async for _ in events:
                pass
        if log.ending is None:
            raise _lost()
        if log.ending.state is State.FAILED:
            raise Unavailable(log.ending.error, retry_after=1)
        return _frame(log).whole(log.text, log.ending)

    async def chunks(self, log: EventLog, *, include_usage: bool) -> AsyncGenerator[bytes]:
        """Yield the answer as Server-Sent Events, the last one `[DONE]`. Whatever goes wrong is told in the stream."""
        try:
            async with aclosing(self._told(log, _frame(log, include_usage=include_usage))) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ParleyError as error:
            yield openai_answer.error_event(error, current().request_id)
        except Exception:  # noqa: BLE001 - a status would be lost on HTTP/1.1
            _log.exception("stream broke", generation_id=str(log.generation_id))
            yield openai_answer.error_event(InternalError(), current().request_id)
        yield DONE

    async def _told(self, log: EventLog, frame: Frame) -> AsyncGenerator[bytes]:
        async with aclosing(log.listen(0, self._heartbeat_seconds)) as events:
            async for event in events:
                frame = dataclasses.replace(frame, model=log.model)  # a fallback may have begun meanwhile
                match event.kind:
                    case Kind.START:
                        yield frame.first()
                    case Kind.TEXT_DELTA:
                        yield frame.delta(event.text)
                    case Kind.HEARTBEAT:
                        yield _HEARTBEAT
                    case Kind.ERROR:
                        raise Unavailable(event.text)  # and no finish reason, which would say that it is whole
                    case Kind.FINISH if log.ending is not None:
                        yield frame.last(log.ending)
                        if frame.include_usage:
                            yield frame.usage(log.ending.usage)
        if log.ending is None:
            raise _lost()


def _lost() -> Unavailable:
    # The generation went to another replica, which ends it: OpenAI's clients have no way to follow it there.
    return Unavailable("The answer was interrupted; try again.", retry_after=1)


def _frame(log: EventLog, *, include_usage: bool = False) -> Frame:
    return Frame(log.generation_id, log.model, int(time.time()), include_usage)
