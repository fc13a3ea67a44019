"""The life of a service process: start, serve, drain, stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer
from prometheus_client import start_http_server
from pydantic import ValidationError

from parley_kit import descriptors, telemetry
from parley_kit.clients import MAX_MESSAGE_BYTES
from parley_kit.identity import TokenVerifier
from parley_kit.interceptors import CallInterceptor
from parley_kit.settings import ServiceSettings

log = structlog.get_logger()

Hook = Callable[[], Awaitable[None]]
Servicers = Sequence[tuple[Any, Callable[..., None]]]
_STATUS = health_pb2.HealthCheckResponse.ServingStatus
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second process would take half of the calls without a word
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass
class Service:
    """Everything that one process serves. Its health is SERVING while it is ready."""

    name: str
    settings: ServiceSettings
    servicers: Servicers
    verifier: TokenVerifier
    on_start: list[Hook] = field(default_factory=list)
    """Run before the port is opened."""
    on_drain: list[Hook] = field(default_factory=list)
    """Run when stopping begins, while running calls go on."""
    on_stop: list[Hook] = field(default_factory=list)
    """Run when the last call has ended."""
    ready: bool = True
    failed: bool = field(default=False, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def set_ready(self, ready: bool) -> None:
        """Say whether the whole service is ready; the health follows."""
        self.ready = ready
        self._changed.set()

    def stop(self) -> None:
        """Begin to stop, as SIGTERM does."""
        self._stopping.set()

    def fail(self) -> None:
        """Stop with a failure: the supervisor starts a fresh process."""
        self.failed = True
        self.stop()

    async def keep_health(self, health: HealthServicer) -> None:
        """Tell health what `ready` says, until cancelled."""
        while True:
            self._changed.clear()
            await health.set("", _STATUS.SERVING if self.ready else _STATUS.NOT_SERVING)
            await self._changed.wait()

    async def until_stopping(self) -> None:
        """Wait for a signal, stop() or fail()."""
        await self._stopping.wait()


def build_server(servicers: Servicers, verifier: TokenVerifier, max_concurrent_rpcs: int) -> grpc.aio.Server:
    """Return a server with the mesh's interceptors, limits and reflection."""
    server = grpc.aio.server(
        interceptors=[*telemetry.server_interceptors(), CallInterceptor(verifier)],
        options=_OPTIONS,
        maximum_concurrent_rpcs=max_concurrent_rpcs,
    )
    for servicer, add in servicers:
        add(servicer, server)
    reflection = ReflectionServicer(descriptors.service_names(), descriptors.pool())
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection, server)
    return server


async def serve(service: Service) -> None:
    """Serve until SIGTERM or SIGINT; SystemExit(1) when the service failed."""
    settings = service.settings
    server = build_server(service.servicers, service.verifier, settings.max_concurrent_rpcs)
    health = HealthServicer()
    await health.set("", _STATUS.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, service.stop)
    metrics = _serve_metrics(settings.metrics_listen) if settings.metrics_listen else None
    for start in service.on_start:
        await start()
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError:
        raise SystemExit(f"{service.name} cannot listen on {settings.listen}: the address is taken.") from None
    await server.start()
    keeping = asyncio.create_task(service.keep_health(health))
    log.info("listening", port=port)
    await service.until_stopping()
    log.info("stopping", failed=service.failed)
    keeping.cancel()
    await health.enter_graceful_shutdown()
    for drain in service.on_drain:
        await drain()
    await server.stop(settings.drain_seconds)
    for stop in service.on_stop:
        await stop()
    if metrics:
        metrics.shutdown()
    telemetry.flush()
    if service.failed:
        raise SystemExit(1)


def main(
    name: str,
    build: Callable[[], Service],
    settings: type[ServiceSettings],
    *,
    package: str | None = None,
    commands: Mapping[str, Callable[[], None]] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Be `python -m parley_<service>`: serves, migrates the schema of a `package`, or does one of its `commands`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {package or build.__module__}",
        description=f"The Parley service {name}.",
        epilog="Settings, from the environment:\n" + _describe(settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = commands or {}
    choices = ["serve", *(["migrate"] if package else []), *own]
    parser.add_argument("command", nargs="?", choices=choices, default="serve", help="default: serve")
    chosen = parser.parse_args(arguments).command
    telemetry.set_up(name, os.environ.get(_variable(settings, "log_level"), "INFO"))
    if chosen == "serve":
        asyncio.run(_run(build, settings))
    elif chosen in own:
        own[chosen]()
    elif package:
        _migrate(package, _variable(settings, "migration_database_url"))


async def _run(build: Callable[[], Service], settings: type[ServiceSettings]) -> None:
    try:
        service = build()
    except ValidationError as error:
        wrong = [f"{_variable(settings, str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise SystemExit("Settings are wrong:\n" + "\n".join(wrong)) from None
    await serve(service)


def _migrate(package: str, variable: str) -> None:
    from parley_kit.migrate import migrate  # noqa: PLC0415 - Alembic is not needed to serve

    url = os.environ.get(variable)
    if not url:
        raise SystemExit(f"{variable} is not set: the URL of the role that owns the schema.")
    schema = package.removeprefix("parley_")
    migrate(package=package, url=url, schema=schema)
    log.info("migrated", schema=schema)


def _variable(settings: type[ServiceSettings], name: str) -> str:
    return f"{settings.model_config.get('env_prefix', '')}{name.upper()}"


def _describe(settings: type[ServiceSettings]) -> str:
    lines = []
    for name, info in settings.model_fields.items():
        default = "required" if info.is_required() else f"default: {info.default}"
        lines.append(f"  {_variable(settings, name)}\n      {info.description} ({default})")
    return "\n".join(lines)


def _serve_metrics(listen: str) -> Any:
    host, _, port = listen.rpartition(":")
    server, _thread = start_http_server(int(port), host)
    return server
