"""An operator: gRPC through the internal port, with an operator's token."""

from __future__ import annotations

import asyncio
import time
import uuid
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from parley.auth.v1 import service_token_service_pb2, service_token_service_pb2_grpc
from parley.billing.v1 import (
    allowance_service_pb2,
    allowance_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    credit_pb2,
    hold_service_pb2,
    hold_service_pb2_grpc,
)
from parley.registry.v1 import catalog_service_pb2, catalog_service_pb2_grpc, model_pb2
from parley_dev.config import Mesh


class Operator:
    """`async with Operator(mesh) as operator:`; `operator.call(Stub, "Method", request)` calls any RPC."""

    def __init__(self, mesh: Mesh) -> None:
        self._secret = (mesh.secrets / "services" / "operator").read_text().strip()
        address = mesh.internal_url.removeprefix("http://")
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self.token = ""

    async def __aenter__(self) -> Self:
        await self.renew()
        return self

    async def renew(self) -> None:
        """Get a fresh token: one lives for a quarter of an hour."""
        tokens = service_token_service_pb2_grpc.ServiceTokenServiceStub(self._channel)
        request = service_token_service_pb2.IssueServiceTokenRequest(service="operator", secret=self._secret)
        self.token = (await tokens.IssueServiceToken(request)).access_token

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def call(self, stub: Any, method: str, request: Any) -> Any:
        """Call a unary RPC."""
        metadata = [("authorization", f"Bearer {self.token}")]
        return await getattr(stub(self._channel), method)(request, metadata=metadata, timeout=30)

    async def audit(self) -> audit_service_pb2.AuditLedgerResponse:
        """Recompute the ledger."""
        stub = audit_service_pb2_grpc.AuditServiceStub
        return await self.call(stub, "AuditLedger", audit_service_pb2.AuditLedgerRequest())

    async def work_audited(self, least: dict[str, int]) -> dict[str, audit_service_pb2.WorkAudit]:
        """Wait until holds and work match both ways, of so many works of each service at least; what is on its way is no drift."""
        async with asyncio.timeout(120):
            while True:
                found = {work.service: work for work in (await self.audit()).work}
                if all(_right(work) and work.works >= least.get(name, 0) for name, work in found.items()):
                    return found
                await asyncio.sleep(0.5)

    async def hold(self, hold_id: str) -> Any:
        """Return a hold."""
        request = hold_service_pb2.GetHoldRequest(hold_id=hold_id)
        return await self.call(hold_service_pb2_grpc.HoldServiceStub, "GetHold", request)

    async def charge(self, user: str, micros: int) -> None:
        """Charge a user: a hold for as many prompt tokens as cost just that, settled."""
        catalog, holds = catalog_service_pb2_grpc.CatalogServiceStub, hold_service_pb2_grpc.HoldServiceStub
        ask = catalog_service_pb2.ResolveModelRequest(task=model_pb2.Model.CHAT)
        model = (await self.call(catalog, "ResolveModel", ask)).model
        tokens = micros * 1_000_000 // model.price.input_micros_per_million_tokens
        quantity = credit_pb2.Quantity(input_tokens=tokens)
        place = hold_service_pb2.PlaceHoldRequest(
            hold_id=str(uuid.uuid4()),
            user_id=user,
            model=model.id,
            price_version=model.price.version,
            max_quantity=quantity,
        )
        await self.call(holds, "PlaceHold", place)
        await self.call(
            holds, "SettleHold", hold_service_pb2.SettleHoldRequest(hold_id=place.hold_id, quantity=quantity)
        )

    async def allow(self, user: str, plan: str) -> None:
        """Give a user a plan for an hour."""
        end = Timestamp(seconds=int(time.time()) + 3600)
        request = allowance_service_pb2.CreateAllowanceRequest(
            allowance_id=str(uuid.uuid4()), user_id=user, plan=plan, expire_time=end
        )
        await self.call(allowance_service_pb2_grpc.AllowanceServiceStub, "CreateAllowance", request)


def _right(work: audit_service_pb2.WorkAudit) -> bool:
    wrong = (work.works_without_hold, work.holds_without_work, work.unsettled_works, work.mismatched_works)
    return work.compared and not any(wrong)
