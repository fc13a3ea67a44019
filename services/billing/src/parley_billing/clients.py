"""What billing needs of others: prices of the registry, and of those who place holds what these were for."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import grpc
from parley.chat.v1 import work_service_pb2 as chat_pb
from parley.chat.v1.work_service_pb2_grpc import WorkServiceStub as ChatStub
from parley.image.v1 import work_service_pb2 as image_pb
from parley.image.v1.work_service_pb2_grpc import WorkServiceStub as ImageStub
from parley.registry.v1 import catalog_service_pb2, catalog_service_pb2_grpc

from parley_billing.convert import from_work
from parley_billing.pricing import Price
from parley_billing.work import Work

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
            answer.cached_input_micros_per_million_tokens
            if answer.HasField("cached_input_micros_per_million_tokens")
            else answer.input_micros_per_million_tokens,
            answer.micros_per_million_audio_seconds,
        )
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[model, version] = price
        return price


class GrpcWorks:
    """A service's generations or image jobs, by gRPC. The services' messages have one shape and names of their own."""

    def __init__(self, stub: Any, messages: Any) -> None:
        self._stub = stub
        self._messages = messages

    async def page(self, after: uuid.UUID, up_to: uuid.UUID) -> tuple[Sequence[Work], dt.datetime]:
        """Return a page of work, and since when deleted work leaves a trace."""
        answer = await self._stub.ListWork(self._messages.ListWorkRequest(after_id=str(after), up_to_id=str(up_to)))
        return [from_work(work) for work in answer.works], answer.complete_from.ToDatetime(dt.UTC)


def works_of(chat: grpc.aio.Channel | None, image: grpc.aio.Channel | None) -> dict[str, GrpcWorks | None]:
    """Return a client for every service that places holds, by its name; None without a channel."""
    return {
        "chat": None if chat is None else GrpcWorks(ChatStub(chat), chat_pb),
        "inference-image": None if image is None else GrpcWorks(ImageStub(image), image_pb),
    }
