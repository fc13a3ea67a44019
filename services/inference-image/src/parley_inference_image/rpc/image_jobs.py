"""parley.image.v1.ImageJobService."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from parley.image.v1 import image_job_pb2, image_job_service_pb2, image_job_service_pb2_grpc
from parley_kit import pages
from parley_kit.context import user_id

from parley_inference_image import convert
from parley_inference_image.jobs import Jobs

Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_PAGE = 20
_STREAM_HEADERS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
_PICTURE_HEADERS = (("cache-control", "private, max-age=31536000, immutable"),)


class ImageJobServicer(image_job_service_pb2_grpc.ImageJobServiceServicer):
    """Image jobs of the token's user."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def CreateImageJob(
        self, request: image_job_service_pb2.CreateImageJobRequest, context: Context
    ) -> image_job_pb2.ImageJob:
        """Queue a picture."""
        del context
        job = await self._jobs.create(user_id(), convert.to_ask(request), request.request_id)
        return convert.to_message(job)

    async def GetImageJob(
        self, request: image_job_service_pb2.GetImageJobRequest, context: Context
    ) -> image_job_pb2.ImageJob:
        """Return a job."""
        del context
        return convert.to_message(await self._jobs.get(user_id(), convert.to_uuid("id", request.id)))

    async def ListImageJobs(
        self, request: image_job_service_pb2.ListImageJobsRequest, context: Context
    ) -> image_job_service_pb2.ListImageJobsResponse:
        """List jobs, newest first."""
        del context
        size = request.page_size or _DEFAULT_PAGE
        found = await self._jobs.list(user_id(), _page_start(request.page_token), size + 1)
        page = found[:size]
        return image_job_service_pb2.ListImageJobsResponse(
            jobs=[convert.to_message(job) for job in page],
            next_page_token=pages.encode(str(page[-1].id)) if len(found) > size else "",
        )

    async def StreamImageJob(
        self, request: image_job_service_pb2.StreamImageJobRequest, context: Context
    ) -> AsyncGenerator[image_job_pb2.ImageJobEvent]:
        """Stream a job until it ends. Headers go out only after the job was found to be the user's."""
        events = await self._jobs.watch(user_id(), convert.to_uuid("id", request.id))
        await context.send_initial_metadata(_STREAM_HEADERS)
        seq = 0
        async with aclosing(events):
            async for event in events:
                seq += 1
                yield convert.to_event(event, seq)

    async def CancelImageJob(
        self, request: image_job_service_pb2.CancelImageJobRequest, context: Context
    ) -> image_job_pb2.ImageJob:
        """Cancel a job."""
        del context
        return convert.to_message(await self._jobs.cancel(user_id(), convert.to_uuid("id", request.id)))

    async def GetImageJobImage(
        self, request: image_job_service_pb2.GetImageJobImageRequest, context: Context
    ) -> HttpBody:
        """Return the picture."""
        png = await self._jobs.image(user_id(), convert.to_uuid("id", request.id))
        await context.send_initial_metadata(_PICTURE_HEADERS)
        return HttpBody(content_type="image/png", data=png)


def _page_start(token: str) -> uuid.UUID | None:
    if not token:
        return None
    (last,) = pages.decode(token, 1)
    return convert.to_uuid("pageToken", last)
