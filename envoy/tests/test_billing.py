"""Credits, usage and statements through Envoy, from a real billing."""

import datetime as dt
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio
from parley_billing.models import SCHEMA
from parley_billing.promotions import NewPromotion
from parley_billing.repository import Repository
from parley_billing.rpc import servicers
from parley_kit.clients import open_channel
from parley_kit.db import create_engine, new_id
from parley_kit.identity import RemoteJwksVerifier
from parley_kit.testing import database, serve_in_process

from .proxy import envoy
from .shape import error

GRANT = 1000


def now():
    return dt.datetime.now(dt.UTC)


@pytest_asyncio.fixture(scope="session")
async def billing(auth):
    async with database("parley_billing", SCHEMA) as fresh:
        engine = create_engine(fresh.app_url)
        repository = Repository(engine)
        served = servicers(repository, None, welcome_grant=GRANT, new_id=new_id, now=now)
        channel = open_channel(auth.address, None)
        async with serve_in_process(served, RemoteJwksVerifier(channel)) as (_, address):
            yield SimpleNamespace(address=address, repository=repository)
        await channel.close()
        await engine.dispose()


@pytest_asyncio.fixture(scope="session")
async def edge(auth, billing, tmp_path_factory):
    async with (
        envoy({"auth": auth.address, "billing": billing.address}, tmp_path_factory.mktemp("envoy")) as running,
        httpx.AsyncClient(base_url=running.edge, timeout=30) as client,
    ):
        yield client


@pytest_asyncio.fixture(scope="session")
async def bearer(edge):
    return await person(edge, "credits@example.org")


async def person(edge, email):
    answer = await edge.post("/v1/auth/signup", json={"email": email, "password": "a good password"})
    bearer = {"authorization": f"Bearer {answer.json()['accessToken']}"}
    assert (await edge.get("/v1/credits", headers=bearer)).json()["balanceMicros"] == str(GRANT)
    return bearer


async def test_usage(edge, bearer):
    answer = await edge.get("/v1/usage?from=2026-01-01&to=2026-02-01&pageSize=1", headers=bearer)
    assert (answer.status_code, answer.json()) == (200, {"usage": [], "nextPageToken": ""})


async def test_a_bad_day_is_named(edge, bearer):
    told = error(await edge.get("/v1/usage?from=x", headers=bearer), 400, "INVALID_ARGUMENT")
    assert told["param"] == "from"


async def test_a_statement(edge, bearer):
    month = f"{now():%Y-%m}"
    answer = await edge.get(f"/v1/statements/{month}", headers=bearer)
    assert answer.json() == {
        "month": month,
        "complete": False,
        "openingBalanceMicros": "0",
        "lines": [{"kind": "welcome_grant", "model": "", "entries": "1", "amountMicros": "1000"}],
        "closingBalanceMicros": "1000",
    }


async def test_a_statement_as_csv(edge, bearer):
    month = f"{now():%Y-%m}"
    answer = await edge.get(f"/v1/statements/{month}/csv", headers=bearer)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="statement-{month}.csv"'
    assert answer.text.splitlines() == [
        "month,kind,model,entries,amount_micros",
        f"{month},opening_balance,,,0",
        f"{month},welcome_grant,,1,1000",
        f"{month},closing_balance,,,1000",
    ]


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/statements/2026-01", "/v1/statements/2026-01/csv"])
async def test_nothing_without_a_token_or_by_another_method(edge, bearer, path):
    error(await edge.get(path), 401, "UNAUTHENTICATED")
    error(await edge.post(path, headers=bearer, json={}), 404, "UNIMPLEMENTED")


@pytest.mark.parametrize("path", ["/v1/usage/x", "/v1/statements", "/v1/statements/2026-01/pdf", "/v1/usagex"])
async def test_what_is_not_there(edge, bearer, path):
    error(await edge.get(path, headers=bearer), 404, "UNIMPLEMENTED")


async def test_a_promotion_code(edge, billing):
    bearer = await person(edge, "promotions@example.org")
    promotion = NewPromotion(new_id(), 70, 1, now() + dt.timedelta(hours=1), "spring", "a test", "r-1")
    await billing.repository.add_promotion(promotion, "0123456789ABCDEF")
    path, body = "/v1/credits/promotions:redeem", {"code": "0123-4567-89ab-cdef", "requestId": "once"}
    answer = await edge.post(path, headers=bearer, json=body)
    assert (answer.status_code, answer.json()["kind"], answer.json()["amountMicros"]) == (200, "promotion", "70")
    assert (await edge.post(path, headers=bearer, json=body)).content == answer.content
    error(await edge.post(path, headers=bearer, json={"code": body["code"]}), 409, "PROMOTION_CODE_USED")
    error(await edge.post(path, headers=bearer, json={"code": "0"}), 404, "PROMOTION_CODE_UNKNOWN")
    error(await edge.post(path, headers=bearer, json={}), 400, "INVALID_ARGUMENT")
    error(await edge.post(path, json=body), 401, "UNAUTHENTICATED")
