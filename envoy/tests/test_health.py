from contextlib import AsyncExitStack

import httpx
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from .proxy import ENVOY_FOLDER, SERVICES, envoy, until_status
from .shape import error
from .upstreams import serving


@pytest_asyncio.fixture(scope="module")
async def six(tmp_path_factory):
    async with AsyncExitStack() as stack:
        running = {service: await stack.enter_async_context(serving()) for service in SERVICES}
        addresses = {service: address for service, (address, _) in running.items()}
        proxy = await stack.enter_async_context(envoy(addresses, tmp_path_factory.mktemp("six")))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=proxy.edge))
        yield client, {service: checks for service, (_, checks) in running.items()}, proxy


async def test_healthz_is_200_while_all_six_serve(six):
    client, checks, _ = six
    await until_status(client, "/healthz", 200)
    assert (await client.get("/healthz")).json() == {"status": "SERVING"}
    await checks["inference-llm"].set("", HealthCheckResponse.NOT_SERVING)
    await until_status(client, "/healthz/inference-llm", 503)
    told = error(await client.get("/healthz"), 503, "UNAVAILABLE")
    others = [service for service in SERVICES if service != "inference-llm"]
    for service in others:
        assert f"/healthz/{service}" in told["message"]
        assert (await client.get(f"/healthz/{service}")).status_code == 200
    await checks["inference-llm"].set("", HealthCheckResponse.SERVING)
    await until_status(client, "/healthz", 200)


def test_each_of_the_six_counts():
    """One by one in a running Envoy would take as many seconds as health checks need to notice."""
    configuration = (ENVOY_FOLDER / "envoy.yaml").read_text()
    whole = next(line for line in configuration.splitlines() if "{exact: /healthz}" in line)
    assert all(f"{service}: {{value: 1}}" in whole for service in SERVICES)


async def test_health_checks_are_not_in_the_access_log(six):
    client, _, proxy = six
    assert (await client.get("/healthz")).status_code == 200
    seen = (await client.get("/nothing")).headers["x-request-id"]
    await proxy.logged(request_id=seen)
    assert "/healthz" not in proxy.log.read_text()
