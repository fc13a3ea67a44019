"""Rate limits at the edge, with buckets that are soon empty, behind one trusted proxy, so that addresses differ."""

import datetime as dt
import itertools
import uuid

import httpx
import pytest_asyncio

from .proxy import envoy, until_status
from .shape import error

LIST = "/v1/conversations/0192f0c1-0000-7000-8000-000000000000/messages"
RESUME, KEYS = "/v1/generations/0192f0c1-0000-7000-8000-000000000000:stream", "/.well-known/jwks.json"
ADDRESS, USER, CREDENTIALS = 120, 60, 6
_addresses = (f"198.51.100.{number}" for number in itertools.count(1))


@pytest_asyncio.fixture(scope="session")
async def limited(auth, chat, tmp_path_factory):
    values = {"ADDRESS_PER_MINUTE": ADDRESS, "USER_PER_MINUTE": USER, "CREDENTIALS_PER_MINUTE": CREDENTIALS}
    values = {name: str(value) for name, value in values.items()} | {"TRUSTED_HOPS": "1"}
    async with envoy({"auth": auth.address, "chat": chat}, tmp_path_factory.mktemp("limited"), **values) as running:
        yield running


@pytest_asyncio.fixture
async def somewhere(limited):
    """A client with an address of its own."""
    async with at(limited, next(_addresses)) as client:
        yield client


@pytest_asyncio.fixture
async def elsewhere(limited):
    async with at(limited, next(_addresses)) as client:
        yield client


def at(proxy, address):
    return httpx.AsyncClient(base_url=proxy.edge, headers={"x-forwarded-for": address}, timeout=30)


def somebody(auth):
    """Return a new user's token."""
    return {"authorization": f"Bearer {auth.tokens.issue(str(uuid.uuid4()), 'user', dt.datetime.now(dt.UTC))}"}


async def until_refused(ask, most):
    """Ask until the limit; return the answers before it and the refusal."""
    allowed = []
    while (answer := await ask()).status_code != 429:
        allowed.append(answer)
        assert len(allowed) <= most, "nothing is limited"
    return allowed, answer


def limit_of(answer):
    """Return limit, remaining and reset, each of them told once."""
    names = [f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset")]
    assert all(len(answer.headers.get_list(name, split_commas=True)) == 1 for name in names), answer.headers
    return tuple(int(answer.headers[name]) for name in names)


async def test_a_user_is_limited_whatever_address_he_has(limited, somewhere, elsewhere, messages, auth):
    me = somebody(auth)
    allowed, refused = await until_refused(lambda: somewhere.get(LIST, headers=me), USER + 20)
    assert len(allowed) >= USER
    assert {answer.status_code for answer in allowed} == {200}
    assert limit_of(allowed[0]) == (USER, USER - 1, 0)
    reached = len(messages.seen)
    told = error(refused, 429, "RATE_LIMITED")
    assert "retry-after" in told["message"]
    limit, remaining, reset = limit_of(refused)
    assert (limit, remaining, reset) == (USER, 0, int(refused.headers["retry-after"]))
    assert 1 <= reset <= 60 / USER + 1  # until one is filled in again
    error(await elsewhere.get(LIST, headers=me), 429, "RATE_LIMITED")
    assert len(messages.seen) == reached  # the service was not asked
    assert (await somewhere.get(LIST, headers=somebody(auth))).status_code == 200


async def test_a_bucket_fills_again(limited, somewhere, auth):
    somewhere.headers.update(somebody(auth))
    await until_refused(lambda: somewhere.get(LIST), USER + 20)
    await until_status(somewhere, LIST, 200)


async def test_an_address_is_limited_before_its_tokens_are_looked_at(limited, somewhere, elsewhere, auth):
    allowed, refused = await until_refused(lambda: somewhere.get(LIST, headers={"authorization": "Bearer x"}), 200)
    assert len(allowed) >= ADDRESS
    assert {answer.status_code for answer in allowed} == {401}
    error(refused, 429, "RATE_LIMITED")
    assert limit_of(refused)[0] == ADDRESS
    error(await somewhere.get(LIST, headers=somebody(auth)), 429, "RATE_LIMITED")
    assert (await elsewhere.get(LIST, headers=somebody(auth))).status_code == 200


async def test_an_ipv6_customer_is_his_whole_network(limited):
    async with at(limited, "2001:db8:1:2::1") as one, at(limited, "2001:db8:1:2:ffff::2") as same:
        await until_refused(lambda: one.get("/v1/nothing"), 200)
        error(await same.get("/v1/nothing"), 429, "RATE_LIMITED")
    async with at(limited, "2001:db8:1:3::1") as other:
        assert (await other.get("/v1/nothing")).status_code != 429


async def test_only_the_trusted_proxys_word_on_addresses_counts(limited, somewhere):
    """What a client writes into x-forwarded-for stands before what the proxy adds."""
    proxy_said = somewhere.headers["x-forwarded-for"]
    await until_refused(lambda: somewhere.get("/v1/nothing"), 200)
    for claimed in ("192.0.2.1", "127.0.0.1"):
        answer = await somewhere.get("/v1/nothing", headers={"x-forwarded-for": f"{claimed}, {proxy_said}"})
        error(answer, 429, "RATE_LIMITED")


async def test_without_a_trusted_proxy_nobody_chooses_his_address(proxy):
    async with at(proxy, "192.0.2.1") as client:
        answer = await client.get("/v1/nothing")
    line = await proxy.logged(request_id=answer.headers["x-request-id"])
    assert line["client"] == "127.0.0.1"  # what address-limit counts by


async def test_guessing_is_limited_more_strictly(limited, somewhere, elsewhere):
    wrong = {"email": f"{uuid.uuid4().hex}@example.org", "password": "not this one"}
    allowed, refused = await until_refused(lambda: somewhere.post("/v1/auth/signin", json=wrong), CREDENTIALS + 5)
    assert len(allowed) >= CREDENTIALS
    assert {answer.status_code for answer in allowed} == {401}
    error(refused, 429, "RATE_LIMITED")
    assert limit_of(refused)[0] == CREDENTIALS
    for path in ("/v1/auth/signup", "/v1/auth/anything-else", "/v1/me:upgrade", "/v1/me:upgrade?x=1"):
        error(await somewhere.post(path, json={}), 429, "RATE_LIMITED")
    assert (await somewhere.post("/v1/auth/refresh", json={"refreshToken": "x"})).status_code == 401
    assert (await elsewhere.post("/v1/auth/signin", json=wrong)).status_code == 401


async def test_streams_keys_and_health_are_left_when_the_rest_is_used_up(limited, somewhere, auth):
    me = somebody(auth)
    await until_refused(lambda: somewhere.get(LIST, headers=me), USER + 20)
    await until_refused(lambda: somewhere.get("/v1/nothing"), 200)
    # The tiny chat has no such method, which is its own answer.
    assert (await somewhere.get(f"{RESUME}?after=3", headers=me)).status_code == 404
    assert (await somewhere.get(KEYS)).status_code == 200
    for _ in range(ADDRESS + 20):
        assert (await somewhere.get("/healthz/chat")).status_code == 200
    _, refused = await until_refused(lambda: somewhere.get(RESUME, headers=me), USER + 20)
    assert limit_of(refused)[0] == USER  # not without a limit, either


async def test_grpc_is_told_in_its_own_words(limited, somewhere):
    await until_refused(lambda: somewhere.post("/v1/auth/signin", content=b"{"), CREDENTIALS + 5)
    answer = await somewhere.post("/v1/auth/signin", headers={"content-type": "application/grpc"})
    assert (answer.status_code, answer.headers["grpc-status"]) == (200, "8")
    assert limit_of(answer)[:2] == (CREDENTIALS, 0)
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_services_own_refusal_keeps_its_words(edge, bearer):
    answer = await edge.post(LIST, headers=bearer, json={"content": "ERROR_REASON_RATE_LIMITED"})
    told = error(answer, 429, "RATE_LIMITED", request_id=False)
    assert told["message"].startswith("it is")
    assert answer.headers["retry-after"] == "7"
    assert limit_of(answer) == (4, 0, 7)  # not those of the bucket, which has room
