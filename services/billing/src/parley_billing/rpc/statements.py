"""StatementService."""

from __future__ import annotations

from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from parley.billing.v1 import statement_pb2, statement_service_pb2, statement_service_pb2_grpc
from parley_kit.context import user_id

from parley_billing.convert import from_month, to_statement, to_statement_csv
from parley_billing.reports import Reports

Context = grpc.aio.ServicerContext[Any, Any]


class StatementService(statement_service_pb2_grpc.StatementServiceServicer):
    """A user's months."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def GetStatement(
        self, request: statement_service_pb2.GetStatementRequest, context: Context
    ) -> statement_pb2.Statement:
        """Return the statement of a month."""
        return to_statement(await self._reports.statement(user_id(), from_month(request.month)))

    async def GetStatementCsv(
        self, request: statement_service_pb2.GetStatementCsvRequest, context: Context
    ) -> HttpBody:
        """Return the same as CSV."""
        statement = await self._reports.statement(user_id(), from_month(request.month))
        name = f'attachment; filename="statement-{request.month}.csv"'
        await context.send_initial_metadata((("content-disposition", name), ("cache-control", "private, no-store")))
        return HttpBody(content_type="text/csv; charset=utf-8", data=to_statement_csv(statement).encode())
