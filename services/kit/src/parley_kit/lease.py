"""The lease in the registry: says that this replica serves its model, as long as it is renewed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import grpc
import structlog
from parley.registry.v1 import lease_service_pb2, lease_service_pb2_grpc

from parley_kit.errors import ParleyError

log = structlog.get_logger()

_RELEASE_SECONDS = 2.0


class RegistryLease:
    """Keeps one replica's lease for one model. `announced` is what is sent at every renewal."""

    def __init__(self, registry: grpc.aio.Channel, announced: lease_service_pb2.RenewLeaseRequest) -> None:
        self._stub = lease_service_pb2_grpc.LeaseServiceStub(registry)
        self._announced = announced
        self._task: asyncio.Task[None] | None = None
        self._held = False

    async def keep(self, on_first: Callable[[], None]) -> None:
        """Take the lease and renew it every third of its life; returns at once. `on_first` is called when it is held."""
        self._task = asyncio.create_task(self._renew(on_first))

    async def release(self) -> None:
        """Stop renewing and give the lease back, so that nobody is sent here any more."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if not self._held:
            return
        request = lease_service_pb2.ReleaseLeaseRequest(
            model=self._announced.model, replica_id=self._announced.endpoint.replica_id
        )
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):  # over all of it, the service's own token included
                await self._stub.ReleaseLease(request)
        except (ParleyError, TimeoutError) as error:
            log.info("registry lease left to expire", error=type(error).__name__)

    async def _renew(self, on_first: Callable[[], None]) -> None:
        while True:
            try:
                await self._stub.RenewLease(self._announced, timeout=5)
            except ParleyError as error:
                log.warning("registry lease not renewed", reason=error.code, error=error.message)
                wait = 1.0
            else:
                if not self._held:
                    self._held = True
                    on_first()
                wait = self._announced.ttl_seconds / 3
            # Replicas that started together do not renew together.
            await asyncio.sleep(wait * random.uniform(0.8, 1))  # noqa: S311 - no secret
