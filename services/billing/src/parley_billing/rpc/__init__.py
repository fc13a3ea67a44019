"""One servicer per proto service; together: the servicers of billing with the functions that add them to a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parley.billing.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from parley.billing.v1.credit_service_pb2_grpc import add_CreditServiceServicer_to_server
from parley.billing.v1.hold_service_pb2_grpc import add_HoldServiceServicer_to_server
from parley.billing.v1.statement_service_pb2_grpc import add_StatementServiceServicer_to_server
from parley.billing.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server

from parley_billing.billing import Billing
from parley_billing.reports import Reports
from parley_billing.rpc.audit import AuditService
from parley_billing.rpc.credits import CreditService
from parley_billing.rpc.holds import HoldService
from parley_billing.rpc.statements import StatementService
from parley_billing.rpc.usage import UsageService


def servicers(billing: Billing, reports: Reports) -> list[tuple[Any, Callable[..., None]]]:
    """Return what the server serves."""
    return [
        (CreditService(billing), add_CreditServiceServicer_to_server),
        (HoldService(billing), add_HoldServiceServicer_to_server),
        (UsageService(reports), add_UsageServiceServicer_to_server),
        (StatementService(reports), add_StatementServiceServicer_to_server),
        (AuditService(billing), add_AuditServiceServicer_to_server),
    ]
