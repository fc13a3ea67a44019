"""Answers at the OpenAI edge. They belong to their connection: a caller that goes away cancels, and pays what was written."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from parley_kit.context import current
from parley_kit.errors import ParleyError, Unavailable

from parley_chat import openai_answer
from parley_chat.event_log import EventLog, Kind
from parley_chat.following import Following
from parley_chat.generation import Ending, State
from parley_chat.generation_manager import GenerationManager
from parley_chat.openai_answer import DONE, Frame
from parley_chat.openai_request import CompletionRequest
from parley_chat.sending import Sender

_HEARTBEAT = b": still here\n\n"  # a comment, which every reader of Server-Sent Events skips


class Completions:
    """Starts answers and writes them in OpenAI's words."""

    def __init__(self, sender: Sender, manager: GenerationManager, following: Following) -> None:
        self._sender = sender
        self._manager = manager
        self._following = following

    async def start(self, user_id: uuid.UUID, asked: CompletionRequest) -> uuid.UUID:
        """Admit a completion; return its generation."""
        return await self._sender.complete(user_id, asked.to_ask())

    async def whole(self, generation_id: uuid.UUID) -> bytes:
        """Wait for the end; return the answer in one document. An answer that failed is an error."""
        try:
            log, ending = await self._end(generation_id)
        finally:
            self._manager.cancel_here(generation_id)  # nothing, when it has ended
        if ending.state is State.FAILED:
            raise Unavailable(ending.error, retry_after=1)
        return _frame(log).whole(log.text, ending.finish_reason, ending.usage)

    async def chunks(self, generation_id: uuid.UUID, asked: CompletionRequest) -> AsyncGenerator[bytes]:
        """Yield the answer as Server-Sent Events, the last one `[DONE]`."""
        include_usage = asked.stream_options is not None and asked.stream_options.include_usage
        frame: Frame | None = None
        try:
            async with aclosing(self._following.events(generation_id)) as events:
                async for event, log in events:
                    frame = frame or _frame(log, include_usage=include_usage)
                    match event.kind:
                        case Kind.START:
                            yield frame.first()
                        case Kind.TEXT_DELTA:
                            yield frame.delta(event.text)
                        case Kind.HEARTBEAT:
                            yield _HEARTBEAT
                        case Kind.ERROR:
                            yield openai_answer.error_event(Unavailable(event.text), current().request_id)
                        case Kind.FINISH if log.ending is not None:
                            yield frame.last(log.ending.finish_reason)
                            if include_usage:
                                yield frame.usage(log.ending.usage)
            yield DONE
        except ParleyError as error:
            yield openai_answer.error_event(error, current().request_id)
            yield DONE
        finally:
            self._manager.cancel_here(generation_id)

    async def _end(self, generation_id: uuid.UUID) -> tuple[EventLog, Ending]:
        async with aclosing(self._following.events(generation_id)) as events:
            async for _, log in events:
                if log.ending is not None:
                    return log, log.ending
        raise Unavailable("The answer was lost; try again.", retry_after=1)


def _frame(log: EventLog, *, include_usage: bool = False) -> Frame:
    return Frame(log.generation_id, log.model, int(time.time()), include_usage)
