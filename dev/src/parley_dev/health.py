"""Whether a process is ready: grpc.health.v1 of a service, HTTP of Envoy."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 2.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment is not for loopback
    ("grpc.use_local_subchannel_pool", 1),  # else a refused connection delays the next probe
)


async def is_serving(address: str) -> bool:
    """Whether the whole service at host:port reports SERVING."""
    if not await _listens(address):  # cheaper than a channel, and asked ten times a second
        return False
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def answers_ok(address: str, path: str) -> bool:
    """Whether GET of a path answers 200."""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(*_split(address))
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split()[1:2] == [b"200"]


async def _listens(address: str) -> bool:
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(*_split(address))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
