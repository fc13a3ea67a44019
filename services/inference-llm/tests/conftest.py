"""Fixtures: one running service for the whole session, with real vLLM."""

import grpc
import pytest
import pytest_asyncio
from parley_kit.testing import TestTokens, serve_in_process

from .world import Client, Registry, auth_servicers, registry_servicers, running


@pytest.fixture(scope="session")
def tokens():
    return TestTokens()


@pytest.fixture(scope="session")
def registry():
    return Registry()


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest_asyncio.fixture(scope="session")
async def neighbours(tokens, registry, tmp_path_factory):
    """(secret file, address of auth, address of the registry)."""
    secret = tmp_path_factory.mktemp("secrets") / "inference-llm"
    secret.write_text("a-secret-of-the-tests")
    async with (
        serve_in_process(auth_servicers(tokens), tokens) as (_, auth),
        serve_in_process(registry_servicers(registry), tokens) as (_, leases),
    ):
        yield secret, auth, leases


@pytest_asyncio.fixture(scope="session")
async def service(logs, neighbours):
    async with running(logs, *neighbours) as made:
        yield made


@pytest_asyncio.fixture(scope="session")
async def client(service, tokens):
    async with grpc.aio.insecure_channel(service[1]) as channel:
        yield Client(channel, tokens.service("chat"))
