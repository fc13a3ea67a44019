"""The order of a whole mesh, with the real Postgres and Envoy and stand-ins for the six services."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from parley_dev import health, leftovers, ports
from parley_dev.config import SERVICES, CannotRunError
from parley_dev.mesh import RunningMesh
from parley_dev.testing import mesh_on_free_ports

STAND_IN = """
import asyncio, os, pathlib, signal, sys, time
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

async def serve(name):
    diary = pathlib.Path(os.environ["DIARY"])
    if os.environ.get("BROKEN") == name:
        sys.exit("the signing key is not a key")
    server = grpc.aio.server()
    servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(os.environ[f"PARLEY_{name.upper()}_LISTEN"])
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with diary.open("a") as file:
        file.write(f"start {name}\\n")
    await stop.wait()
    await server.stop(0)
    with diary.open("a") as file:
        file.write(f"stop {name}\\n")
"""
MIGRATE = """
import asyncio, asyncpg
from parley_dev.config import SERVICES
from parley_dev.database import heads

def migrate(*, package, url, schema):
    async def do():
        connection = await asyncpg.connect(url)
        await connection.execute(f"CREATE TABLE {schema}.alembic_version (version_num text)")
        service = next(service for service in SERVICES if service.schema == schema)
        await connection.executemany(f"INSERT INTO {schema}.alembic_version VALUES ($1)", [(head,) for head in heads(service)])
        await connection.close()
    asyncio.run(do())
"""


@pytest.fixture
def stand_ins(tmp_path):
    (tmp_path / "standin.py").write_text(STAND_IN)
    for service in SERVICES:
        package = tmp_path / service.package
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(
            f"import asyncio, standin\nasyncio.run(standin.serve({service.schema!r}))\n"
        )
    kit = tmp_path / "parley_kit"
    kit.mkdir()
    (kit / "__init__.py").touch()
    (kit / "migrate.py").write_text(MIGRATE)
    return {"PYTHONPATH": str(tmp_path), "DIARY": str(tmp_path / "diary")}


def diary(stand_ins):
    return Path(stand_ins["DIARY"]).read_text().splitlines()


async def test_starts_in_order_heals_and_stops_in_order(home, stand_ins):
    mesh = mesh_on_free_ports(home, model="any", image_model="any", extra_env=stand_ins)
    async with RunningMesh(mesh) as running:
        assert set(running.names) == {"postgres", "envoy", *(service.name for service in SERVICES)}
        assert set(diary(stand_ins)[:4]) == {f"start {name}" for name in ("auth", "registry", "billing", "chat")}
        assert await health.answers_ok(mesh.edge_url.removeprefix("http://"), "/healthz")
        with pytest.raises(CannotRunError, match="is running already"):
            async with RunningMesh(mesh):
                pass
        before = {name: running.pid(name) for name in running.names}
        for name in running.names:
            os.kill(running.pid(name), signal.SIGKILL)
        async with asyncio.timeout(30):
            while any(running.restart_count(name) != 1 for name in running.names):
                await asyncio.sleep(0.02)
        await running.until_ready()
        assert all(running.pid(name) != pid for name, pid in before.items())
        assert "billing was killed (signal 9, SIGKILL); restarting" in running.screen.lines
    stops = [line.removeprefix("stop ") for line in diary(stand_ins) if line.startswith("stop")]
    assert stops[0] == "chat"
    assert set(stops[1:3]) == {"inference_llm", "inference_image"}
    assert stops[3:] == ["billing", "registry", "auth"]
    assert leftovers.processes(home) == []
    assert not (home / "postgres" / "data" / "postmaster.pid").exists()
    async with RunningMesh(mesh) as again:
        assert not any("migrating" in line for line in again.screen.lines)


async def test_a_service_that_cannot_start_is_the_one_readable_cause(home, stand_ins):
    mesh = mesh_on_free_ports(home, model="any", image_model="any", extra_env=stand_ins | {"BROKEN": "billing"})
    with pytest.raises(
        CannotRunError, match=r"(?s)billing ended by itself \(exit status 1\).*the signing key is not a key"
    ):
        async with RunningMesh(mesh):
            pass
    assert leftovers.processes(home) == []


async def test_a_kill_of_the_supervisor_leaves_nothing_and_the_next_start_works(home, stand_ins):
    mesh = mesh_on_free_ports(home, model="any", image_model="any", extra_env=stand_ins)
    settings = {
        "PARLEY_HOME": str(home),
        "PARLEY_BASE_PORT": str(mesh.base_port),
        "PARLEY_EDGE_PORT": str(mesh.edge_port),
        "PARLEY_INTERNAL_PORT": str(mesh.internal_port),
        "PARLEY_INFERENCE_LLM_MODEL": "any",
        "PARLEY_INFERENCE_IMAGE_MODEL": "any",
    }
    command = [sys.executable, "-m", "parley_dev", "run"]
    for stop in (signal.SIGKILL, signal.SIGINT):
        supervisor = await asyncio.create_subprocess_exec(
            *command, env=os.environ | stand_ins | settings, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            while b"Ctrl-C stops everything" not in (line := await supervisor.stdout.readline()):
                assert line, "make run ended before it was up"
        ours = leftovers.processes(home)
        assert len(ours) >= len(SERVICES) + 1
        supervisor.send_signal(stop)
        await supervisor.wait()
        _, alive = await asyncio.to_thread(psutil.wait_procs, ours, 30)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert supervisor.returncode == 0
    assert all(ports.is_free(port, "127.0.0.1") for port in mesh.ports())
