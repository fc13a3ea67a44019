"""What billing needs of the registry: prices."""

from __future__ import annotations

from typing import Protocol

import grpc
from parley.registry.v1 import catalog_service_pb2, catalog_service_pb2_grpc

from parley_billing.pricing import Price

_MOST = 10_000  # versions kept in memory


class Prices(Protocol):
    """Price versions."""

    async def get(self, model: str, version: int) -> Price:
        """Return one version of a model's price; NotFound when there is none."""
        ...


class GrpcPrices:
    """The registry's prices. Versions never change, so each is asked for once."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self._known: dict[tuple[str, int], Price] = {}

    async def get(self, model: str, version: int) -> Price:
        """Return one version."""
        known = self._known.get((model, version))
        if known is not None:
            return known
        answer = await self._catalog.GetPrice(catalog_service_pb2.GetPriceRequest(model=model, version=version))
        price = Price(
            answer.version,
            answer.input_micros_per_million_tokens,
            answer.output_micros_per_million_tokens,
            answer.micros_per_million_pixel_steps,
            answer.cached_input_micros_per_million_tokens,
            answer.micros_per_million_audio_seconds,
        )
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[model, version] = price
        return price
