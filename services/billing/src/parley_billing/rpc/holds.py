"""HoldService."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import grpc
from opentelemetry import trace
from parley.billing.v1 import hold_pb2, hold_service_pb2, hold_service_pb2_grpc
from parley_kit.context import current

from parley_billing.billing import Billing
from parley_billing.convert import from_maximum, from_quantity, to_hold
from parley_billing.hold import Origin
from parley_billing.rpc.caller import calling_service

Context = grpc.aio.ServicerContext[Any, Any]
_TTL_SECONDS = 900


class HoldService(hold_service_pb2_grpc.HoldServiceServicer):
    """Two-phase charging for the services that compute."""

    def __init__(self, billing: Billing) -> None:
        self._billing = billing

    async def PlaceHold(self, request: hold_service_pb2.PlaceHoldRequest, context: Context) -> hold_pb2.Hold:
        """Set credits aside."""
        hold = await self._billing.place(
            uuid.UUID(request.hold_id),
            uuid.UUID(request.user_id),
            request.model,
            request.price_version,
            from_maximum(request.max_quantity),
            dt.timedelta(seconds=request.ttl_seconds or _TTL_SECONDS),
            Origin(
                current().request_id,
                _trace_id(),
                uuid.UUID(request.api_key_id) if request.api_key_id else None,
                request.api_key_limit_micros if request.HasField("api_key_limit_micros") else None,
                calling_service(),
            ),
        )
        return to_hold(hold)

    async def ExtendHold(self, request: hold_service_pb2.ExtendHoldRequest, context: Context) -> hold_pb2.Hold:
        """Set more credits aside."""
        ttl = dt.timedelta(seconds=request.ttl_seconds)
        return to_hold(await self._billing.extend(uuid.UUID(request.hold_id), from_maximum(request.max_quantity), ttl))

    async def SettleHold(self, request: hold_service_pb2.SettleHoldRequest, context: Context) -> hold_pb2.Hold:
        """Charge what was used."""
        fallback = (request.served_model, request.served_price_version) if request.served_model else None
        quantity = from_quantity(request.quantity)
        return to_hold(await self._billing.settle(uuid.UUID(request.hold_id), quantity, fallback))

    async def ReleaseHold(self, request: hold_service_pb2.ReleaseHoldRequest, context: Context) -> hold_pb2.Hold:
        """Free a hold."""
        return to_hold(await self._billing.release(uuid.UUID(request.hold_id)))

    async def GetHold(self, request: hold_service_pb2.GetHoldRequest, context: Context) -> hold_pb2.Hold:
        """Return a hold."""
        return to_hold(await self._billing.get(uuid.UUID(request.hold_id)))


def _trace_id() -> str:
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""
