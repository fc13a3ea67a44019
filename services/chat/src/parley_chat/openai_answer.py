"""OpenAI's answers of chat completions: the whole document, the chunks of a stream, and errors within one."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from parley_kit.errors import ParleyError, error_body

from parley_chat.generation import Ending, FinishReason, Usage

DONE = b"data: [DONE]\n\n"
_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


@dataclass(frozen=True)
class Frame:
    """What every document about one answer shares. `created` is in seconds since 1970."""

    generation_id: uuid.UUID
    model: str
    created: int
    include_usage: bool = False

    def whole(self, text: str, ending: Ending) -> bytes:
        """Return the answer in one document."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None} | _end(ending)
        return _json(self._document("chat.completion", [choice]) | {"usage": _usage(ending.usage)})

    def first(self) -> bytes:
        """Return the chunk that opens a stream."""
        return self._chunk([_choice({"role": "assistant", "content": "", "refusal": None})])

    def delta(self, text: str) -> bytes:
        """Return a chunk with text."""
        return self._chunk([_choice({"content": text})])

    def last(self, ending: Ending) -> bytes:
        """Return the chunk that closes the choice."""
        return self._chunk([_choice({}) | _end(ending)])

    def usage(self, usage: Usage) -> bytes:
        """Return the chunk with the counts, which has no choice."""
        return _event(self._document("chat.completion.chunk", []) | {"usage": _usage(usage)})

    def _chunk(self, choices: list[dict[str, Any]]) -> bytes:
        document = self._document("chat.completion.chunk", choices)
        return _event(document | {"usage": None} if self.include_usage else document)

    def _document(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.generation_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def finish_reason(reason: FinishReason) -> str:
    """Return OpenAI's word for an end; it has none for a cancelled answer, which is at least not a whole one."""
    return _REASONS.get(reason, "length")


def _end(ending: Ending) -> dict[str, Any]:
    """Return how a choice ends; what has no word of OpenAI's (`INSUFFICIENT_CREDITS`) stands beside, in a field of ours."""
    reason = {"finish_reason": finish_reason(ending.finish_reason)}
    return reason | {"error_reason": ending.error_reason} if ending.error_reason else reason


def error_event(error: ParleyError, request_id: str) -> bytes:
    """Return an error in the middle of a stream, when it is too late for a status."""
    return _event(error_body(error, request_id))


def _choice(delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
    }


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + _json(document) + b"\n\n"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
