"""Structured logs to standard output, and OpenTelemetry traces when an OTLP endpoint is configured."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence

import grpc
import structlog
from opentelemetry import trace

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_DETAIL = re.compile(r"^DETAIL: .*$", re.MULTILINE)


def traces_are_exported() -> bool:
    """Whether spans are made: nobody could look one up without an exporter, and each call would pay for it."""
    return bool(os.environ.get(ENDPOINT))


def set_up(service: str, level: str) -> None:
    """Configure logging and tracing of this process, once, before anything is served."""
    _set_up_logs(service, level)
    if traces_are_exported():
        _set_up_traces(service)


def flush() -> None:
    """Export the spans that are still in memory; at the end of the process."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is not None:
        shutdown()


def server_interceptors() -> list[grpc.aio.ServerInterceptor]:
    """Return the interceptors that make a span of each served call; none for health checks."""
    if not traces_are_exported():
        return []
    from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters  # noqa: PLC0415 - only if used

    # Both are untyped.
    return [aio_server_interceptor(filter_=filters.negate(filters.health_check()))]  # type: ignore[no-untyped-call]


def client_interceptors() -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors that make a span of each call that is made, and pass the trace on."""
    if not traces_are_exported():
        return []
    from opentelemetry.instrumentation.grpc import aio_client_interceptors  # noqa: PLC0415 - only if used

    interceptors: list[grpc.aio.ClientInterceptor] = aio_client_interceptors()  # type: ignore[no-untyped-call]
    return interceptors


def _set_up_traces(service: str) -> None:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - only if used
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # OTEL_SERVICE_NAME, if set for the whole mesh, would give every service one name: ours wins.
    provider = TracerProvider(resource=Resource.create().merge(Resource({SERVICE_NAME: service})))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def _set_up_logs(service: str, level: str) -> None:
    def name_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_service,
        _add_trace,
        structlog.processors.format_exc_info,
        _leave_out_row_contents,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(),
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]), handlers=[handler])


def _add_trace(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = trace.format_trace_id(span.trace_id)
        event["span_id"] = trace.format_span_id(span.span_id)
    return event


def _leave_out_row_contents(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # Postgres tells the contents of the failing row; they may be what a user wrote.
    if "exception" in event:
        event["exception"] = _DETAIL.sub("DETAIL: (left out)", event["exception"])
    return event
