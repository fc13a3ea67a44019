"""The life of a service process, as a process."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

SERVICE = """
import os
from parley_kit.server import Service, main
from parley_kit.settings import ServiceSettings, settings_config
from parley_kit.testing import TestTokens

class Settings(ServiceSettings):
    model_config = settings_config("PARLEY_TRIAL_")
    def __init__(self): super().__init__()

def build():
    service = Service("trial", Settings(), [], TestTokens(), ready="LATE" not in os.environ)
    async def say(text): print(text, flush=True)
    service.on_start.append(lambda: say("started"))
    service.on_drain.append(lambda: say("draining"))
    service.on_stop.append(lambda: say("stopped"))
    if "FAILS" in os.environ:
        async def fail(): service.fail()
        service.on_start.append(fail)
    return service

main("trial", build, Settings)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def running(*arguments, **env):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", SERVICE, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PARLEY_TRIAL_LISTEN": f"127.0.0.1:{free_port()}"} | env,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_listening(process):
    while b'"listening"' not in (line := await process.stdout.readline()):
        assert line, (await process.stderr.read()).decode()
    return json.loads(line)["port"]


async def status(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())).status


async def test_serves_then_drains_and_stops_in_order_on_sigterm():
    metrics = free_port()
    async with running(PARLEY_TRIAL_METRICS_LISTEN=f"127.0.0.1:{metrics}") as process:
        port = await until_listening(process)
        assert await status(port) == health_pb2.HealthCheckResponse.SERVING
        reader, writer = await asyncio.open_connection("127.0.0.1", metrics)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"parley_requests_total" in await reader.read()
        writer.close()
        process.send_signal(signal.SIGTERM)
        rest = (await process.stdout.read()).decode()
        assert rest.index("draining") < rest.index("stopped")
        assert await process.wait() == 0
        assert (await process.stderr.read()).decode() == ""


async def test_a_service_that_is_not_ready_says_so():
    async with running(LATE="1") as process:
        assert await status(await until_listening(process)) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_service_that_fails_exits_with_a_status():
    async with running(FAILS="1") as process:
        await process.stdout.read()
        assert await process.wait() == 1


async def test_a_taken_port_is_one_readable_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with running(PARLEY_TRIAL_LISTEN=address) as process:
            errors = (await process.stderr.read()).decode()
    assert f"trial cannot listen on {address}" in errors
    assert "Traceback" not in errors


async def test_a_wrong_setting_is_named_without_its_value():
    async with running(PARLEY_TRIAL_DATABASE_POOL_SIZE="s3cret") as process:
        errors = (await process.stderr.read()).decode()
    assert "PARLEY_TRIAL_DATABASE_POOL_SIZE: " in errors
    assert "s3cret" not in errors
    assert "Traceback" not in errors


async def test_help_lists_the_settings():
    async with running("--help") as process:
        shown = (await process.stdout.read()).decode()
    assert "PARLEY_TRIAL_LISTEN" in shown
    assert "default: 127.0.0.1:0" in shown


async def test_reflection_explains_the_whole_mesh():
    async with running() as process:
        port = await until_listening(process)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol="parley.billing.v1.HoldService"),
            ]
            listed, explained = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    names = {service.name for service in listed.list_services_response.service}
    assert {"parley.auth.v1.SessionService", "parley.billing.v1.HoldService"} <= names
    assert explained.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_cleanly(number):
    async with running() as process:
        await until_listening(process)
        process.send_signal(number)
        assert await process.wait() == 0
