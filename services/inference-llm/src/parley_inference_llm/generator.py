"""The use cases: count a prompt, write an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from parley_inference_llm import metrics
from parley_inference_llm.engine import ChatMessage, Engine, Sampling, Step
from parley_inference_llm.errors import ContextWindowExceeded, WrongModel
from parley_inference_llm.prompt import Prompt, fit


class Generator:
    """One loaded model under its name in the catalogue."""

    def __init__(self, engine: Engine, *, model: str, max_output_tokens: int) -> None:
        self._engine = engine
        self._model = model
        self._limit = max_output_tokens

    async def prepare(self, model: str, messages: Sequence[ChatMessage], asked: int) -> Prompt:
        """Choose what of a conversation becomes the prompt, by prompt.py's rule."""
        self._check(model)
        return await asyncio.to_thread(
            fit,
            messages,
            asked,
            window=self._engine.window,
            limit=self._limit,
            count=lambda kept: len(self._engine.render(kept)),
            count_text=lambda text: len(self._engine.tokenize(text)),
        )

    async def generate(
        self,
        model: str,
        messages: Sequence[ChatMessage],
        continuation: str,
        sampling: Sampling,
        cache_salt: str = "",
    ) -> AsyncGenerator[tuple[int, Step]]:
        """Write the answer after `continuation`; yields the prompt's tokens with every step."""
        self._check(model)
        prompt, written = await asyncio.to_thread(self._tokens, messages, continuation)
        room = self._engine.window - len(prompt) - len(written)
        if room <= 0 and not written:
            raise ContextWindowExceeded(len(prompt), self._engine.window)
        if room <= 0:
            yield len(prompt), Step("", 0, "length")
            return
        sampling = dataclasses.replace(sampling, max_output_tokens=min(sampling.max_output_tokens, room))
        metrics.RUNNING.inc()
        try:
            async with aclosing(self._engine.generate(prompt + written, sampling, cache_salt)) as steps:
                async for step in _measured(steps, len(prompt)):
                    yield len(prompt), step
        finally:
            metrics.RUNNING.dec()

    def _tokens(self, messages: Sequence[ChatMessage], continuation: str) -> tuple[list[int], list[int]]:
        return self._engine.render(messages), self._engine.tokenize(continuation) if continuation else []

    def _check(self, model: str) -> None:
        if model != self._model:
            raise WrongModel(model, self._model)


async def _measured(steps: AsyncGenerator[Step], prompt_tokens: int) -> AsyncGenerator[Step]:
    began = before = time.perf_counter()
    tokens = 0
    metrics.TOKENS.labels("input").inc(prompt_tokens)
    async for step in steps:
        now = time.perf_counter()
        new = step.output_tokens - tokens
        if new and not tokens:
            metrics.TIME_TO_FIRST_TOKEN.observe(now - began)
        elif new:
            metrics.INTER_TOKEN.observe((now - before) / new)
        metrics.TOKENS.labels("output").inc(new)
        before, tokens = now, step.output_tokens
        yield step
