"""Streamed answers: through the whole mesh, and straight from the engine."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import httpx
from parley.inference.llm.v1 import generation_pb2, llm_service_pb2, llm_service_pb2_grpc
from parley_dev.mesh import RunningMesh
from parley_dev.token import operator_token

TOKENS = 64
QUESTION = "Count forever."  # answered until the limit
MODEL = "parley-nano-chat"


@dataclass(frozen=True)
class Timing:
    """Seconds to the first token, and per token after it."""

    first: float
    per_token: float


async def through_envoy(running: RunningMesh, repeats: int, *, at_once: int = 1) -> list[Timing]:
    """Send messages as an app does, each to a conversation of its own."""
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=running.mesh.edge_url, timeout=60, limits=limits, trust_env=False) as client:
        body = {"email": f"{uuid.uuid4().hex}@example.org", "password": "correct horse battery"}
        session = (await client.post("/v1/auth/signup", json=body)).json()
        headers = {"authorization": f"Bearer {session['accessToken']}"}

        async def ask() -> Timing:
            made = (await client.post("/v1/conversations", headers=headers, json={})).json()
            path = f"/v1/conversations/{made['id']}/messages:stream"
            message = {"content": QUESTION, "maxOutputTokens": TOKENS, "temperature": 0}
            began = time.perf_counter()
            first = 0.0
            async with client.stream("POST", path, headers=headers, json=message) as answer:
                async for line in answer.aiter_lines():
                    if not first and '"text-delta"' in line:
                        first = time.perf_counter()
            return Timing(first - began, (time.perf_counter() - first) / (TOKENS - 1))

        return await _repeat(ask, repeats, at_once)


async def direct(running: RunningMesh, repeats: int, *, at_once: int = 1) -> list[Timing]:
    """Ask inference-llm itself."""
    token = await operator_token(running.mesh)
    async with grpc.aio.insecure_channel(running.mesh.address("inference-llm")) as channel:
        stub = llm_service_pb2_grpc.LlmServiceStub(channel)

        async def ask() -> Timing:
            request = llm_service_pb2.GenerateRequest(
                model=MODEL,
                generation_id=str(uuid.uuid4()),
                messages=[generation_pb2.ChatMessage(role="user", content=QUESTION)],
                sampling=generation_pb2.Sampling(max_output_tokens=TOKENS, temperature=0),
            )
            began = time.perf_counter()
            first = 0.0
            async for _ in stub.Generate(request, metadata=[("authorization", f"Bearer {token}")]):
                first = first or time.perf_counter()
            return Timing(first - began, (time.perf_counter() - first) / (TOKENS - 1))

        return await _repeat(ask, repeats, at_once)


async def _repeat(ask: Callable[[], Awaitable[Timing]], repeats: int, at_once: int) -> list[Timing]:
    timings: list[Timing] = []
    while len(timings) < repeats:
        timings += await asyncio.gather(*(ask() for _ in range(at_once)))
    return timings
