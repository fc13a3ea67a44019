"""ModelsService, in OpenAI's shape."""

from __future__ import annotations

from typing import Any

import grpc
from google.api import httpbody_pb2
from parley.openai.v1 import models_service_pb2, models_service_pb2_grpc

from parley_registry.catalog import Catalog
from parley_registry.convert import to_json, to_openai

Context = grpc.aio.ServicerContext[Any, Any]


class ModelsService(models_service_pb2_grpc.ModelsServiceServicer):
    """The models that users can choose."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListModels(
        self, request: models_service_pb2.ListModelsRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """List the models."""
        listed = await self._catalog.list()
        return to_json({"object": "list", "data": [to_openai(model) for model in listed]})

    async def GetModel(self, request: models_service_pb2.GetModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """Return one model."""
        return to_json(to_openai(await self._catalog.find(request.model)))
