"""Proto <-> domain. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from parley.inference.llm.v1 import generation_pb2, llm_service_pb2

from parley_inference_llm.engine import ChatMessage, Sampling, Step
from parley_inference_llm.prompt import Prompt


def from_messages(messages: Iterable[generation_pb2.ChatMessage]) -> list[ChatMessage]:
    """Read turns."""
    return [ChatMessage(message.role, message.content) for message in messages]


def from_sampling(sampling: generation_pb2.Sampling) -> Sampling:
    """Read how to sample; what is unset stays None."""
    return Sampling(
        max_output_tokens=sampling.max_output_tokens,
        temperature=sampling.temperature if sampling.HasField("temperature") else None,
        top_p=sampling.top_p if sampling.HasField("top_p") else None,
        presence_penalty=sampling.presence_penalty if sampling.HasField("presence_penalty") else None,
        frequency_penalty=sampling.frequency_penalty if sampling.HasField("frequency_penalty") else None,
        seed=sampling.seed if sampling.HasField("seed") else None,
        stop=tuple(sampling.stop),
    )


def to_prepared(prompt: Prompt, messages: int) -> llm_service_pb2.PreparePromptResponse:
    """Write a prepared prompt."""
    return llm_service_pb2.PreparePromptResponse(
        prompt_tokens=prompt.tokens,
        dropped_messages=messages - len(prompt.kept),
        max_output_tokens=prompt.max_output_tokens,
        kept=prompt.kept,
    )


def to_response(prompt_tokens: int, step: Step) -> generation_pb2.GenerateResponse:
    """Write a step."""
    return generation_pb2.GenerateResponse(
        delta=step.delta,
        input_tokens=prompt_tokens,
        output_tokens=step.output_tokens,
        finish_reason=step.finish_reason,
        cached_input_tokens=min(step.cached_tokens, prompt_tokens),  # of a continuation, what was written is cached too
    )
