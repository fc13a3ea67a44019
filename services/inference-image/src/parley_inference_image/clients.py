"""What this service needs of its neighbours, and how it asks them over gRPC. Failures come out as ParleyError."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Protocol

import grpc
from parley.billing.v1 import credit_pb2, hold_pb2, hold_service_pb2, hold_service_pb2_grpc
from parley.registry.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    model_pb2,
)
from parley_kit.context import api_key
from parley_kit.errors import Unavailable

from parley_inference_image.job import Job


@dataclass(frozen=True)
class ResolvedModel:
    """A model by its id, with the price of now."""

    id: str
    price_version: int


class Billing(Protocol):
    """Holds; a job's id is its hold's id and the idempotency key of all three calls."""

    async def place(self, job: Job, ttl: dt.timedelta) -> dt.datetime:
        """Set aside the most that the job can cost; return when the hold expires."""
        ...

    async def settle(self, hold_id: uuid.UUID, pixel_steps: int) -> int:
        """Charge what was used; return the charge in micro-credits."""
        ...

    async def release(self, hold_id: uuid.UUID) -> None:
        """Free the hold without a charge."""
        ...


class Registry(Protocol):
    """The catalogue."""

    async def resolve(self, name: str) -> ResolvedModel:
        """Return the picture model of a name or alias; the default one for an empty name."""
        ...


class GrpcBilling:
    """Billing over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._holds = hold_service_pb2_grpc.HoldServiceStub(channel)

    async def place(self, job: Job, ttl: dt.timedelta) -> dt.datetime:
        """Set aside the most that the job can cost."""
        key = api_key()
        hold = await self._holds.PlaceHold(
            hold_service_pb2.PlaceHoldRequest(
                hold_id=str(job.id),
                user_id=str(job.user_id),
                model=job.model,
                price_version=job.price_version,
                max_quantity=credit_pb2.Quantity(pixel_steps=job.max_pixel_steps),
                ttl_seconds=int(ttl.total_seconds()),
                api_key_id=str(key.id) if key else "",
                api_key_limit_micros=key.credit_limit_micros if key else None,
            )
        )
        if hold.state != hold_pb2.Hold.PENDING:
            # A replayed answer of a hold that was resolved meanwhile pays for nothing.
            raise Unavailable("The picture could not be admitted; try again.", retry_after=1)
        return hold.expire_time.ToDatetime(tzinfo=dt.UTC)

    async def settle(self, hold_id: uuid.UUID, pixel_steps: int) -> int:
        """Charge what was used."""
        quantity = credit_pb2.Quantity(pixel_steps=pixel_steps)
        request = hold_service_pb2.SettleHoldRequest(hold_id=str(hold_id), quantity=quantity)
        return (await self._holds.SettleHold(request)).charged_micros

    async def release(self, hold_id: uuid.UUID) -> None:
        """Free the hold."""
        await self._holds.ReleaseHold(hold_service_pb2.ReleaseHoldRequest(hold_id=str(hold_id)))


class GrpcRegistry:
    """The registry over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)

    async def resolve(self, name: str) -> ResolvedModel:
        """Return the picture model of a name, with its price."""
        request = catalog_service_pb2.ResolveModelRequest(name=name, task=model_pb2.Model.IMAGE)
        model = (await self._catalog.ResolveModel(request)).model
        return ResolvedModel(model.id, model.price.version)
