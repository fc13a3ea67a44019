"""The limit that all Envoys share: two of them before one rate-limit service, which counts as the standard one does."""

import collections
import datetime as dt
import uuid

import grpc
import httpx
import pytest
import pytest_asyncio

from .proxy import ENVOY_FOLDER, envoy, free_port
from .shape import error

LIST = "/v1/conversations/0192f0c1-0000-7000-8000-000000000000/messages"
OK, OVER, MINUTE = 1, 2, 2
MOST = 3


class Counter:
    """Lets each descriptor pass `MOST` times; `down` fails every call."""

    def __init__(self, protos):
        self._protos = protos
        self.counts = collections.Counter()
        self.domains = set()
        self.down = False

    async def ShouldRateLimit(self, request, context):
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no Redis")
        self.domains.add(request.domain)
        keys = [tuple((entry.key, entry.value) for entry in descriptor.entries) for descriptor in request.descriptors]
        self.counts.update(keys)
        statuses = [
            {
                "code": OVER if self.counts[key] > MOST else OK,
                "current_limit": {"requests_per_unit": MOST, "unit": MINUTE},
                "limit_remaining": max(0, MOST - self.counts[key]),
                "duration_until_reset": {"seconds": 42},
            }
            for key in keys
        ]
        code = max((status["code"] for status in statuses), default=OK)
        return self._protos.RateLimitResponse(overall_code=code, statuses=statuses)


@pytest_asyncio.fixture(scope="module")
async def counter():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ENVOY_FOLDER / "tests"))
        protos, services = grpc.protos_and_services("rate_limit_service.proto")
    made = Counter(protos)
    server = grpc.aio.server()
    services.add_RateLimitServiceServicer_to_server(made, server)
    made.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield made
    await server.stop(None)


@pytest_asyncio.fixture(scope="module")
async def edges(counter, auth, chat, tmp_path_factory):
    where = {"RATE_LIMIT_HOST": "127.0.0.1", "RATE_LIMIT_PORT": str(counter.port)}
    addresses = {"auth": auth.address, "chat": chat}
    async with (
        envoy(addresses, tmp_path_factory.mktemp("one"), **where, TRUSTED_HOPS="1") as one,
        envoy(addresses, tmp_path_factory.mktemp("two"), **where, TRUSTED_HOPS="1") as two,
        httpx.AsyncClient(base_url=one.edge, timeout=30) as first,
        httpx.AsyncClient(base_url=two.edge, timeout=30) as second,
    ):
        yield first, second


@pytest.fixture
def me(auth, counter):
    counter.counts.clear()
    counter.down = False
    user = str(uuid.uuid4())
    token = auth.tokens.issue(user, "user", dt.datetime.now(dt.UTC))
    return user, {"authorization": f"Bearer {token}", "x-forwarded-for": f"2001:db8::{user[:4]}"}


async def test_two_envoys_count_together(edges, me, counter):
    user, headers = me
    first, second = edges
    for edge in (first, second, first):
        answer = await edge.get(LIST, headers=headers)
        assert answer.status_code == 200
    assert [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["3", "0", "42"]
    refused = await second.get(LIST, headers=headers)
    error(refused, 429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == refused.headers["x-ratelimit-reset"] == "42"
    assert not [name for name in refused.headers if "envoy" in name]
    assert counter.counts == {
        (("class", "others"), ("masked_remote_address", "2001:db8::/64")): 4,
        (("class", "others"), ("user", user)): 4,
    }
    assert counter.domains == {"parley"}


async def test_guesses_are_counted_apart(edges, me, counter):
    _, headers = me
    for _ in range(MOST):
        assert (await edges[0].post("/v1/auth/signin", headers=headers, content=b"{")).status_code == 400
    error(await edges[1].post("/v1/auth/signin", headers=headers, content=b"{"), 429, "RATE_LIMITED")
    assert {key[0] for key in counter.counts} == {("class", "others"), ("class", "credentials")}


async def test_without_the_service_the_local_buckets_hold(edges, me, counter, auth, chat, tmp_path):
    _, headers = me
    counter.down = True
    for _ in range(MOST + 2):
        assert (await edges[0].get(LIST, headers=headers)).status_code == 200
    absent = {"RATE_LIMIT_HOST": "127.0.0.1", "RATE_LIMIT_PORT": str(free_port()), "USER_PER_MINUTE": "2"}
    async with (
        envoy({"auth": auth.address, "chat": chat}, tmp_path, **absent) as alone,
        httpx.AsyncClient(base_url=alone.edge, timeout=30) as edge,
    ):
        answers = [(await edge.get(LIST, headers=headers)).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
