"""What users write is nobody's business but theirs."""

from __future__ import annotations

import uuid

import grpc
import pytest
from parley.image.v1 import image_job_service_pb2 as pb
from parley.image.v1.image_job_service_pb2_grpc import ImageJobServiceStub, add_ImageJobServiceServicer_to_server
from parley_inference_image.engine import Engine
from parley_inference_image.rpc.image_jobs import ImageJobServicer
from parley_kit.testing import TestTokens, serve_in_process

from .world import World

WISH = "umbrella-penguin " * 60  # longer than the text encoder reads: libraries like to warn with what they cut off
AVERSION = "zeppelin-walrus " * 60


async def test_prompts_and_tokens_are_not_logged(
    world: World, engine: Engine, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    tokens = TestTokens()
    token = tokens.user(uuid.uuid4())
    metadata = (("authorization", f"Bearer {token}"),)
    ask = pb.CreateImageJobRequest(prompt=WISH, negative_prompt=AVERSION, width=64, height=64, steps=1, request_id="r1")
    bad = pb.CreateImageJobRequest(prompt=WISH, negative_prompt=AVERSION, width=65, height=64)
    servicers = [(ImageJobServicer(world.jobs), add_ImageJobServiceServicer_to_server)]
    async with serve_in_process(servicers, tokens) as (channel, _), world.working(engine):
        stub = ImageJobServiceStub(channel)
        job = await stub.CreateImageJob(ask, metadata=metadata)
        async for _ in stub.StreamImageJob(pb.StreamImageJobRequest(id=job.id), metadata=metadata):
            pass
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.CreateImageJob(bad, metadata=metadata)
    written = "".join(capfd.readouterr()) + caplog.text
    assert "image job ended" in written  # it was logged, or this would prove nothing
    for secret in ("penguin", "walrus", token):
        assert secret not in written
