"""The lease in the registry: says that this replica serves its model, as long as it renews it."""

from __future__ import annotations

import asyncio
import datetime as dt

import structlog
from parley_kit.errors import ParleyError

from parley_inference_image.clients import Registry

_log = structlog.get_logger()


class RegistryLease:
    """Keeps one replica's lease for one model."""

    def __init__(self, registry: Registry, *, model: str, replica: str, address: str, ttl: dt.timedelta) -> None:
        self._registry = registry
        self._model = model
        self._replica = replica
        self._address = address
        self._ttl = ttl
        self._held = False

    async def keep(self) -> None:
        """Renew every third of the lease's life until cancelled."""
        while True:
            try:
                await self._registry.renew(self._model, self._replica, self._address, self._ttl)
                self._held = True
            except ParleyError as error:
                _log.warning("registry lease not renewed", reason=error.code)
            await asyncio.sleep(self._ttl.total_seconds() / 3)

    async def release(self) -> None:
        """Give the lease back, so that nobody is sent here any more."""
        if not self._held:
            return
        try:
            await self._registry.release(self._model, self._replica)
        except ParleyError as error:
            _log.info("registry lease left to expire", reason=error.code)
