"""An OpenTelemetry collector that keeps what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Spans by trace id: (service, span)."""

    def __init__(self) -> None:
        self.address = ""
        self.traces: dict[str, list[tuple[str, Any]]] = {}

    async def Export(self, request: Any, context: Any) -> Any:
        """Keep the spans."""
        for resource in request.resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.traces.setdefault(span.trace_id.hex(), []).append((names[0], span))
        return trace_service_pb2.ExportTraceServiceResponse()

    async def until(self, trace_id: str, enough: Callable[[list[tuple[str, Any]]], bool]) -> list[tuple[str, Any]]:
        """Return a trace when it is whole enough; exporters send in batches, every few seconds."""
        async with asyncio.timeout(30):
            while not enough(self.traces.get(trace_id, [])):
                await asyncio.sleep(0.1)
        return self.traces[trace_id]


@asynccontextmanager
async def collector() -> AsyncGenerator[Collector]:
    """Serve a collector on a free port."""
    made = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)
