"""LeaseService."""

from __future__ import annotations

import datetime as dt
from typing import Any

import grpc
from parley.registry.v1 import lease_service_pb2, lease_service_pb2_grpc

from parley_registry.catalog import Catalog
from parley_registry.convert import from_renewal, to_lease

Context = grpc.aio.ServicerContext[Any, Any]


class LeaseService(lease_service_pb2_grpc.LeaseServiceServicer):
    """How replicas announce that they live."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def RenewLease(
        self, request: lease_service_pb2.RenewLeaseRequest, context: Context
    ) -> lease_service_pb2.Lease:
        """Take or renew a lease."""
        announced = from_renewal(request)
        return to_lease(announced, await self._catalog.renew(announced, dt.timedelta(seconds=request.ttl_seconds)))

    async def ReleaseLease(
        self, request: lease_service_pb2.ReleaseLeaseRequest, context: Context
    ) -> lease_service_pb2.ReleaseLeaseResponse:
        """Give a lease back."""
        await self._catalog.release(request.model, request.replica_id)
        return lease_service_pb2.ReleaseLeaseResponse()
