"""parley.image.v1.WorkService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.image.v1 import work_service_pb2 as pb
from parley.image.v1 import work_service_pb2_grpc

from parley_inference_image.convert import to_timestamp, to_work
from parley_inference_image.works_repository import WorkRepository

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 1000


class WorkServicer(work_service_pb2_grpc.WorkServiceServicer):
    """What billing asks for when it audits the ledger."""

    def __init__(self, repository: WorkRepository) -> None:
        self._repository = repository

    async def ListWork(self, request: pb.ListWorkRequest, context: Context) -> pb.ListWorkResponse:
        """List jobs."""
        del context
        works = await self._repository.works(uuid.UUID(request.after_id), uuid.UUID(request.up_to_id), _PAGE)
        # After the page: whatever was forgotten before it was older than this.
        complete_from = to_timestamp(await self._repository.complete_from())
        return pb.ListWorkResponse(works=[to_work(work) for work in works], complete_from=complete_from)
