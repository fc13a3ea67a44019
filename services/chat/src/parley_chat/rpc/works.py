"""parley.chat.v1.WorkService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.chat.v1 import work_service_pb2 as pb
from parley.chat.v1 import work_service_pb2_grpc

from parley_chat.convert import to_timestamp, to_work
from parley_chat.repository import Repository
from parley_chat.sweeping import KEPT_FOR_AUDITS

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 1000


class WorkServicer(work_service_pb2_grpc.WorkServiceServicer):
    """What billing asks for when it audits the ledger."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def ListWork(self, request: pb.ListWorkRequest, context: Context) -> pb.ListWorkResponse:
        """List generations."""
        del context
        works = await self._repository.works(uuid.UUID(request.after_id), uuid.UUID(request.up_to_id), _PAGE)
        # After the page: whatever was forgotten before it was older than this.
        complete_from = await self._repository.works_complete_from(KEPT_FOR_AUDITS)
        return pb.ListWorkResponse(works=[to_work(work) for work in works], complete_from=to_timestamp(complete_from))
