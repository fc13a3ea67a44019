"""One mesh for every test below this folder."""

import os
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio
import yaml
from parley_dev.mesh import RunningMesh
from parley_dev.testing import mesh_on_free_ports, temporary_home

from services.billing.tests import fake_stripe as fakes
from services.billing.tests import shop_world
from services.billing.tests.fake_stripe import fake_stripe

from .framework.collector import collector
from .framework.issuer import AUDIENCE, Issuer
from .framework.operator import Operator
from .framework.person import Person

ROOT = Path(__file__).resolve().parents[1]
BUILT_IN, ABSENT = "parley-nano-chat", "absent-chat"
# A proxy in the environment is not for loopback.
os.environ["NO_PROXY"] = "127.0.0.1,localhost"


@pytest_asyncio.fixture(scope="session")
async def traces():
    async with collector() as made:
        yield made


@pytest.fixture(scope="session")
def issuer():
    """The identity provider `local` of the mesh."""
    with Issuer() as running:
        yield running
        running.shutdown()


@pytest.fixture(scope="session")
def stripe():
    with fake_stripe() as server:
        yield server


@pytest.fixture(scope="session")
def shop(stripe, tmp_path_factory):
    """Settings of a billing that sells, through a Stripe of the tests."""
    secrets = {
        "STRIPE_API_KEY_FILE": fakes.KEY,
        "STRIPE_WEBHOOK_SECRET_FILE": fakes.SECRET,
        "REVENUECAT_AUTHORIZATION_FILE": shop_world.AUTHORIZATION,
        "REVENUECAT_SIGNING_SECRET_FILE": shop_world.SIGNING_SECRET,
    }
    pages = {"CHECKOUT_SUCCESS_URL": "https://app.test/paid", "CHECKOUT_CANCEL_URL": "https://app.test/"}
    settings, folder = pages | {"STRIPE_API_BASE": stripe.url}, tmp_path_factory.mktemp("shop")
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
        settings[name] = str(folder / name)
    return {f"PARLEY_BILLING_{name}": value for name, value in settings.items()}


@pytest_asyncio.fixture(scope="session")
async def mesh(traces, issuer, shop):
    settings = shop | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{traces.address}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds between two exports
        "PARLEY_AUTH_ERASURE_LOOK_AGAIN_SECONDS": "2",  # no statement of these tests takes longer
        # Everybody here has one address, signs up at once and never pauses; envoy/tests has the limits.
        "PARLEY_EDGE_ADDRESS_PER_MINUTE": "1000000",
        "PARLEY_EDGE_USER_PER_MINUTE": "1000000",
        "PARLEY_EDGE_CREDENTIALS_PER_MINUTE": "1000000",
        "PARLEY_BILLING_AUDIT_GRACE_SECONDS": "1",
        "PARLEY_CHAT_SLICE_TOKENS": "48",  # so that answers of the built-in model are extended
    }
    with temporary_home() as home:
        settings["PARLEY_REGISTRY_CATALOGUE_FILE"] = str(_catalogue(home.parent))
        providers = home / "oidc-providers.yaml"
        providers.write_text(f"providers: [{{name: local, issuer: '{issuer.url}', audiences: [{AUDIENCE}]}}]")
        settings["PARLEY_AUTH_OIDC_PROVIDERS_FILE"] = str(providers)
        async with RunningMesh(mesh_on_free_ports(home, extra_env=settings)) as running:
            Person.outbox = running.mesh.outbox
            yield running


def _catalogue(folder: Path) -> Path:
    """Write the shipped catalogue with one more model, that nobody serves."""
    catalogue = yaml.safe_load((ROOT / "services" / "registry" / "catalogue.yaml").read_text())
    built_in = next(model for model in catalogue["models"] if model["id"] == BUILT_IN)
    dear = {name: 10 * price for name, price in built_in["price"].items()}
    more = {
        "id": ABSENT,
        "display_name": "Absent",
        "aliases": [],
        "default": False,
        "fallbacks": [BUILT_IN],
        "price": dear,
    }
    catalogue["models"].append(built_in | more)
    file = folder / "catalogue.yaml"
    file.write_text(yaml.safe_dump(catalogue))
    return file


@pytest_asyncio.fixture(scope="session")
async def edge(mesh):
    """Without an identity."""
    async with httpx.AsyncClient(base_url=mesh.mesh.edge_url, timeout=60) as client:
        yield client


@pytest_asyncio.fixture(scope="session")
async def operator(mesh):
    async with Operator(mesh.mesh) as made:
        yield made


@pytest_asyncio.fixture
async def me(edge):
    return await Person.sign_up(edge)


@pytest_asyncio.fixture
async def other(edge):
    return await Person.sign_up(edge)


@pytest_asyncio.fixture
async def pauper(edge, operator):
    """Somebody whose credits were all spent."""
    person = await Person.sign_up(edge)
    balance, _, _ = await person.credits()
    await operator.charge(person.id, balance)
    assert await person.credits() == (0, 0, 0)
    return person


@pytest_asyncio.fixture(scope="session")
async def sql(mesh):
    """Run a statement as a role: `await sql("billing_app", "SELECT …")`."""

    async def run(role, statement, *values):
        connection = await asyncpg.connect(mesh.database_url(role))
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    return run
