"""OpenAI's request body of chat completions: what is understood, and what is refused by name.

Parameters that would change the answer and are not built yet (tools, several choices, audio …) are refused, not ignored:
an ignored one would give a wrong answer that looks right. Those that only describe the caller are accepted.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from parley_kit.errors import FieldError, InvalidArgument, ParleyError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from parley_chat.generation import Sampling, Turn
from parley_chat.sending import CompletionAsk

MOST_MESSAGES = 2000
_MOST_CHARACTERS = 262_144  # of one message; the context window is the limit that is felt


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "must not contain the NUL character")  # Postgres cannot store it
    return text


def _off(value: bool) -> bool:
    if value:
        raise PydanticCustomError("unsupported", "is not supported here")
    return value


Text = Annotated[str, StringConstraints(max_length=_MOST_CHARACTERS), AfterValidator(_without_nul)]
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_without_nul)]
_Off = Annotated[bool, AfterValidator(_off)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
_ROLES = {"developer": "system"}  # OpenAI's newer word for it


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: Text


class RequestMessage(_Strict):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=100)]
    name: str | None = None
    refusal: None = None

    @property
    def text(self) -> str:
        """The whole content."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    """What a stream tells besides the text."""

    include_usage: bool = False


class TextFormat(_Strict):
    """The only format so far."""

    type: Literal["text"]


class CompletionRequest(_Strict):
    """The body."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_without_nul)]
    messages: Annotated[list[RequestMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(min_length=1, max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    logprobs: _Off | None = None
    response_format: TextFormat | None = None
    # They describe the caller and change no answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: _Off | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def to_ask(self) -> CompletionAsk:
        """Return what is asked, in our words."""
        by_new_name = self.max_completion_tokens is not None
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return CompletionAsk(
            turns=tuple(Turn(_ROLES.get(message.role, message.role), message.text) for message in self.messages),
            model=self.model,
            sampling=Sampling(
                max_output_tokens=self.max_completion_tokens if by_new_name else self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                seed=self.seed,
                stop=stop,
            ),
            limit_field="max_completion_tokens" if by_new_name else "max_tokens",
        )


def read(body: bytes) -> CompletionRequest:
    """Read a body; InvalidArgument names each parameter that is wrong, as OpenAI does (`messages[0].role`)."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidArgument("body", "is not JSON") from None
    if not isinstance(document, dict):
        raise InvalidArgument("body", "is not a JSON object")
    try:
        return CompletionRequest.model_validate(document)
    except ValidationError as error:
        fields = _fields(error)
    summary = "; ".join(f"{field.field}: {field.description}" for field in fields[:3])
    raise ParleyError(summary, reason=InvalidArgument.reason, fields=fields)


def _fields(error: ValidationError) -> list[FieldError]:
    """Return what is wrong, once a place: unions complain once a member."""
    found: dict[str, str] = {}
    for problem in error.errors(include_input=False, include_url=False):
        path = _path(problem["loc"]) or "body"
        known = problem["type"] == "extra_forbidden"
        found.setdefault(path, "is not supported here" if known else _lower(problem["msg"]))
    # Of a union's complaints the one that got furthest is about what was meant.
    deepest = [path for path in found if not any(other != path and other.startswith(path) for other in found)]
    return [FieldError(path, found[path]) for path in deepest]


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in _UNION_MEMBERS or "[" in part:  # pydantic names the member of a union that it tried
            continue
        else:
            path += f".{part}" if path else part
    return path


_UNION_MEMBERS = frozenset({"str", "float", "int", "constrained-str", "constrained-float", "constrained-int"})


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
