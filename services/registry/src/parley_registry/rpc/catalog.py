"""CatalogService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.registry.v1 import catalog_service_pb2, catalog_service_pb2_grpc, model_pb2

from parley_registry.catalog import Catalog
from parley_registry.convert import from_task, to_price, to_resolved

Context = grpc.aio.ServicerContext[Any, Any]


class CatalogService(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Names to models and prices, for the other services."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ResolveModel(
        self, request: catalog_service_pb2.ResolveModelRequest, context: Context
    ) -> catalog_service_pb2.ResolveModelResponse:
        """Resolve a name."""
        return to_resolved(await self._catalog.resolve(request.name, from_task(request.task)))

    async def GetPrice(self, request: catalog_service_pb2.GetPriceRequest, context: Context) -> model_pb2.Price:
        """Return a price version."""
        return to_price(await self._catalog.price(request.model, request.version))
