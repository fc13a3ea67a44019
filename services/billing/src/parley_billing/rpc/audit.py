"""AuditService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.billing.v1 import audit_service_pb2, audit_service_pb2_grpc

from parley_billing.billing import Billing
from parley_billing.convert import to_audit
from parley_billing.work_audit import WorkAuditor


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """Proof that the books are right."""

    def __init__(self, billing: Billing, work: WorkAuditor) -> None:
        self._billing = billing
        self._work = work

    async def AuditLedger(
        self, request: audit_service_pb2.AuditLedgerRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> audit_service_pb2.AuditLedgerResponse:
        """Recompute the ledger and compare all holds with what they were for."""
        return to_audit(await self._billing.audit(), await self._work.audit(whole=True))
