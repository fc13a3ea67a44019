"""The service over gRPC with the kit's interceptors, the real engine and the real database."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from parley.image.v1 import image_job_pb2
from parley.image.v1 import image_job_service_pb2 as pb
from parley.image.v1.image_job_service_pb2_grpc import ImageJobServiceStub, add_ImageJobServiceServicer_to_server
from parley_inference_image.engine import Engine
from parley_inference_image.rpc.image_jobs import ImageJobServicer
from parley_kit.errors import ParleyError, parley_error_from
from parley_kit.testing import TestTokens, serve_in_process
from PIL import Image

from .fakes import MICROS_PER_PIXEL_STEP
from .world import World

ImageJob = image_job_pb2.ImageJob


class Caller:
    """One user's stub."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = ImageJobServiceStub(channel)
        self._token = (("authorization", f"Bearer {token}"),)

    async def __call__(self, method: str, request: Any) -> Any:
        try:
            return await getattr(self._stub, method)(request, metadata=self._token)
        except grpc.aio.AioRpcError as error:
            raise parley_error_from(error) from None

    def call(self, method: str, request: Any) -> Any:
        return getattr(self._stub, method)(request, metadata=self._token)

    async def create(self, **ask: Any) -> ImageJob:
        fields = {"prompt": "a red cat", "width": 64, "height": 64, "steps": 4, "seed": 7} | ask
        return await self("CreateImageJob", pb.CreateImageJobRequest(**fields))

    async def events(self, job_id: str) -> list[image_job_pb2.ImageJobEvent]:
        return [event async for event in self.call("StreamImageJob", pb.StreamImageJobRequest(id=job_id))]


@pytest_asyncio.fixture
async def callers(world: World) -> AsyncGenerator[tuple[Caller, Caller]]:
    tokens = TestTokens()
    servicers = [(ImageJobServicer(world.jobs), add_ImageJobServiceServicer_to_server)]
    async with serve_in_process(servicers, tokens) as (channel, _):
        yield Caller(channel, tokens.user(uuid.uuid4())), Caller(channel, tokens.user(uuid.uuid4()))


async def refusal(call: Awaitable[Any]) -> ParleyError:
    with pytest.raises(ParleyError) as caught:
        await call
    return caught.value


async def test_life_of_a_picture(world: World, callers: tuple[Caller, Caller], engine: Engine) -> None:
    me, _ = callers
    made = await me.create(request_id="r1")
    assert (made.state, made.position, made.width, made.seed) == (ImageJob.QUEUED, 0, 64, 7)
    assert not made.HasField("charged_micros")
    assert not made.HasField("end_time")
    assert await me.create(request_id="r1") == made
    too_early = await refusal(me("GetImageJobImage", pb.GetImageJobImageRequest(id=made.id)))
    assert too_early.code == "FAILED_PRECONDITION"

    watching = asyncio.create_task(me.events(made.id))
    while not world.watch._topics:
        await asyncio.sleep(0.01)
    async with world.working(engine):
        events = await watching
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[0].type, events[0].position) == ("queued", 0)
    assert [event.step for event in events if event.type == "progress"][-4:] == [1, 2, 3, 4]
    assert events[-1].type == "done"
    assert [event.type for event in events].count("done") == 1

    done = await me("GetImageJob", pb.GetImageJobRequest(id=made.id))
    assert done == events[-1].job
    assert (done.state, done.steps_done) == (ImageJob.SUCCEEDED, 4)
    assert done.charged_micros == 64 * 64 * 4 * MICROS_PER_PIXEL_STEP
    assert [event.type for event in await me.events(made.id)] == ["done"]

    call = me.call("GetImageJobImage", pb.GetImageJobImageRequest(id=made.id))
    body = await call
    assert dict(await call.initial_metadata())["cache-control"].startswith("private")
    assert body.content_type == "image/png"
    assert Image.open(io.BytesIO(body.data)).size == (64, 64)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("prompt", "", "prompt"),
        ("prompt", " \n", "prompt"),
        ("prompt", "x" * 2001, "prompt"),
        ("prompt", "a\0b", "prompt"),
        ("negative_prompt", "x" * 2001, "negativePrompt"),
        ("negative_prompt", "\0", "negativePrompt"),
        ("width", 63, "width"),
        ("width", 1032, "width"),
        ("height", 100, "height"),
        ("steps", 0, "steps"),
        ("steps", 101, "steps"),
        ("seed", -1, "seed"),
        ("request_id", "x" * 129, "requestId"),
        ("request_id", "\0", "requestId"),
    ],
)
async def test_bad_input_names_the_field_and_keeps_nothing(
    world: World, callers: tuple[Caller, Caller], field: str, value: Any, named: str
) -> None:
    error = await refusal(callers[0].create(**{field: value}))
    assert (error.code, error.fields[0].field) == ("INVALID_ARGUMENT", named)
    assert await world.count() == 0
    assert world.billing.calls == []


async def test_other_refusals(world: World, callers: tuple[Caller, Caller]) -> None:
    me, _ = callers
    assert (await refusal(me.create(model="nothing"))).code == "MODEL_NOT_FOUND"
    await me.create(request_id="r1")
    assert (await refusal(me.create(request_id="r1", seed=8))).code == "IDEMPOTENCY_CONFLICT"
    world.billing.credits_micros = 0
    assert (await refusal(me.create())).code == "INSUFFICIENT_CREDITS"
    world.billing.down = True
    assert (await refusal(me.create())).code == "UNAVAILABLE"
    assert len((await me("ListImageJobs", pb.ListImageJobsRequest())).jobs) == 1


async def test_somebody_elses_job_is_not_found(callers: tuple[Caller, Caller]) -> None:
    me, other = callers
    job = await me.create()
    for method, request in (
        ("GetImageJob", pb.GetImageJobRequest(id=job.id)),
        ("CancelImageJob", pb.CancelImageJobRequest(id=job.id)),
        ("GetImageJobImage", pb.GetImageJobImageRequest(id=job.id)),
    ):
        assert (await refusal(other(method, request))).code == "NOT_FOUND"
    stream = other.call("StreamImageJob", pb.StreamImageJobRequest(id=job.id))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await anext(aiter(stream))
    assert parley_error_from(error.value).code == "NOT_FOUND"
    assert "cache-control" not in dict(await stream.initial_metadata())
    assert (await refusal(me("GetImageJob", pb.GetImageJobRequest(id="7")))).fields[0].field == "id"
    assert (await me("GetImageJob", pb.GetImageJobRequest(id=job.id))).state == ImageJob.QUEUED


async def test_pages(callers: tuple[Caller, Caller]) -> None:
    me, other = callers
    await other.create()
    ids = [(await me.create()).id for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = await me("ListImageJobs", pb.ListImageJobsRequest(page_size=2, page_token=token))
        seen += [job.id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert seen == ids[::-1]
    for bad in ("x", "WyJ4Il0"):
        error = await refusal(me("ListImageJobs", pb.ListImageJobsRequest(page_token=bad)))
        assert error.fields[0].field == "pageToken"


async def test_cancel(callers: tuple[Caller, Caller]) -> None:
    me, _ = callers
    job = await me.create()
    cancelled = await me("CancelImageJob", pb.CancelImageJobRequest(id=job.id))
    assert (cancelled.state, cancelled.charged_micros) == (ImageJob.CANCELLED, 0)
    assert cancelled.HasField("end_time")
    assert await me("CancelImageJob", pb.CancelImageJobRequest(id=job.id)) == cancelled
    assert [event.type for event in await me.events(job.id)] == ["done"]


async def test_a_client_that_leaves_is_forgotten(world: World, callers: tuple[Caller, Caller]) -> None:
    me, _ = callers
    job = await me.create()
    stream = me.call("StreamImageJob", pb.StreamImageJobRequest(id=job.id))
    assert (await anext(aiter(stream))).type == "queued"
    assert world.watch._topics
    stream.cancel()
    while world.watch._topics:
        await asyncio.sleep(0.01)
