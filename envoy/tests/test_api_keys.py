"""API keys at the edge: exchanged by the real auth, and refused in the one shape."""

import asyncio
import time
import uuid

import httpx
import openai
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import KeySet

from .conftest import KEY_FRESH
from .proxy import envoy
from .shape import error

MESSAGES = "/v1/conversations/c/messages"
UNKNOWN = "sk-" + "x" * 43


def client_of(running):
    return httpx.AsyncClient(base_url=running.edge)


def sent(key):
    return {"authorization": f"Bearer {key}"}


@pytest_asyncio.fixture
async def owner(edge):
    body = {"email": f"{uuid.uuid4().hex}@example.org", "password": "a good password"}
    session = (await edge.post("/v1/auth/signup", json=body)).json()
    return {"authorization": f"Bearer {session['accessToken']}"}, session["user"]


async def make(edge, owner, **more):
    body = {"name": "mine", "scopes": ["chat", "account-read"]} | more
    answer = await edge.post("/v1/auth/api-keys", json=body, headers=owner[0])
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_life_of_a_key(edge, owner):
    made = await make(edge, owner, creditLimitMicros="5000000")
    key = made["apiKey"]
    assert made["secret"].startswith(key["prefix"])
    assert (key["name"], key["scopes"], key["creditLimitMicros"]) == ("mine", ["account-read", "chat"], "5000000")
    assert {"revokeTime", "lastUseTime", "expireTime"}.isdisjoint(key)
    me = await edge.get("/v1/me", headers=sent(made["secret"]))
    assert (me.status_code, me.json()) == (200, owner[1])
    path = f"/v1/auth/api-keys/{key['id']}"
    renamed = await edge.patch(path, json={"name": "yours"}, headers=owner[0])
    assert renamed.json()["name"] == "yours"
    listed = (await edge.get("/v1/auth/api-keys", headers=owner[0])).json()
    assert [(found["name"], "lastUseTime" in found) for found in listed["apiKeys"]] == [("yours", True)]
    assert made["secret"] not in str(listed)
    revoked = await edge.delete(path, headers=owner[0])
    assert (revoked.status_code, bool(revoked.json()["revokeTime"])) == (200, True)
    error(await edge.get("/v1/me", headers=sent(made["secret"])), 401, "UNAUTHENTICATED")


async def test_the_service_gets_a_short_lived_token_and_never_the_key(edge, owner, auth, messages):
    secret = (await make(edge, owner, creditLimitMicros="7"))["secret"]
    messages.seen.clear()
    assert (await edge.get(MESSAGES, headers=sent(secret))).status_code == 200
    ((_, metadata),) = messages.seen
    assert secret not in str(metadata)
    token = metadata["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, KeySet([auth.key]), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["role"]) == (owner[1]["id"], "user")
    assert (claims["scope"], claims["key_limit"]) == ("account-read chat", 7)
    assert claims["exp"] - time.time() < 90
    assert "sid" not in claims


@pytest.mark.parametrize("path", [MESSAGES, "/v1/me", "/v1/auth/sessions", "/v1/nothing"])
@pytest.mark.parametrize("key", [UNKNOWN, "sk-", f"sk-{'x' * 5000}", "sk-é"])
async def test_a_key_that_nobody_has_is_a_401_in_the_one_shape(edge, messages, path, key):
    messages.seen.clear()
    answer = await edge.get(path, headers={"authorization": f"Bearer {key}".encode()})
    if path == "/v1/nothing":
        error(answer, 404, "UNIMPLEMENTED")
    else:
        assert "API key" in error(answer, 401, "UNAUTHENTICATED")["message"]
    assert messages.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "bearer {key}")],
        [("authorization", "Bearer  {key}")],
        [("authorization", "{key}")],
        [("authorization", "Bearer {key}"), ("authorization", "Bearer {key}")],
        [("authorization", "Bearer {token}"), ("authorization", "Bearer {key}")],
        [("x-authorization", "Bearer {key}")],
    ],
)
async def test_only_one_way_to_send_a_key(edge, owner, messages, headers):
    secret = (await make(edge, owner))["secret"]
    token = owner[0]["authorization"].removeprefix("Bearer ")
    messages.seen.clear()
    filled = [(name, value.replace("{key}", secret).replace("{token}", token)) for name, value in headers]
    error(await edge.get(MESSAGES, headers=filled), 401, "UNAUTHENTICATED")
    assert messages.seen == []


async def test_public_paths_do_not_mind_a_wrong_key(edge):
    body = {"email": f"{uuid.uuid4().hex}@example.org", "password": "a good password"}
    assert (await edge.post("/v1/auth/signup", json=body, headers=sent(UNKNOWN))).status_code == 200
    assert (await edge.get("/.well-known/jwks.json", headers=sent(UNKNOWN))).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/auth/api-keys", None),
        ("POST", "/v1/auth/api-keys", {"name": "another", "scopes": ["chat"]}),
        ("DELETE", "/v1/auth/api-keys/{id}", None),
        ("PATCH", "/v1/auth/api-keys/{id}", {"name": "x"}),
        ("GET", "/v1/auth/sessions", None),
        ("POST", "/v1/auth/signout-all", {}),
        ("POST", "/v1/auth/password", {"currentPassword": "a good password", "newPassword": "a better password"}),
    ],
)
async def test_no_key_does_what_is_for_people(edge, owner, method, path, body):
    made = await make(edge, owner, scopes=["chat", "images", "models", "account-read"])
    path = path.replace("{id}", made["apiKey"]["id"])
    error(await edge.request(method, path, json=body, headers=sent(made["secret"])), 403, "PERMISSION_DENIED")


async def test_a_key_does_what_its_scopes_say_and_no_more(edge, owner):
    secret = (await make(edge, owner, scopes=["models"]))["secret"]
    told = error(await edge.get("/v1/me", headers=sent(secret)), 403, "PERMISSION_DENIED")
    assert "account-read" in told["message"]


async def test_a_revoked_key_ends_within_the_stated_time_though_another_process_revoked_it(edge, owner, auth):
    """Revoked behind this process's back, as another replica would do it."""
    made = await make(edge, owner)
    assert (await edge.get("/v1/me", headers=sent(made["secret"]))).status_code == 200
    await auth.sql("UPDATE auth.api_keys SET revoked_at = now() WHERE id = CAST(:id AS uuid)", id=made["apiKey"]["id"])
    began = time.monotonic()
    while (await edge.get("/v1/me", headers=sent(made["secret"]))).status_code == 200:
        await asyncio.sleep(0.02)
    assert time.monotonic() - began <= KEY_FRESH.total_seconds() + 0.5


async def test_the_official_client_with_a_key(edge, owner, proxy):
    secret = (await make(edge, owner))["secret"]
    async with openai.AsyncOpenAI(base_url=f"{proxy.edge}/v1", api_key=UNKNOWN, max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.models.list()
    assert refused.value.code == "UNAUTHENTICATED"
    answer = await edge.post("/v1/chat/completions", content=b'{"stream":true}', headers=sent(secret))
    assert answer.headers["content-type"] == "text/event-stream"


async def test_without_auth_a_key_is_a_503(chat, tmp_path):
    async with envoy({"chat": chat}, tmp_path) as running, client_of(running) as client:
        error(await client.get(MESSAGES, headers=sent(UNKNOWN)), 503, "UNAVAILABLE")


async def test_requests_of_a_key_count_as_its_owners(edge, owner, auth, chat, tmp_path):
    secret = (await make(edge, owner))["secret"]
    async with (
        envoy({"auth": auth.address, "chat": chat}, tmp_path, USER_PER_MINUTE="3") as running,
        client_of(running) as client,
    ):
        for headers in (sent(secret), owner[0], sent(secret)):
            assert (await client.get(MESSAGES, headers=headers)).status_code == 200
        error(await client.get(MESSAGES, headers=sent(secret)), 429, "RATE_LIMITED")
        error(await client.get(MESSAGES, headers=owner[0]), 429, "RATE_LIMITED")


async def test_whoever_guesses_keys_is_stopped_and_whoever_has_one_is_not(edge, owner, auth, chat, tmp_path):
    """From 198.51.100.7, which nobody else here is: the address that Envoy tells auth is the client's."""
    secret = (await make(edge, owner))["secret"]
    async with (
        envoy({"auth": auth.address, "chat": chat}, tmp_path, TRUSTED_HOPS="1") as running,
        client_of(running) as client,
    ):
        there = {"x-forwarded-for": "198.51.100.7"}
        assert (await client.get(MESSAGES, headers=sent(secret) | there)).status_code == 200
        codes = []
        for _ in range(32):
            guess = await client.get(MESSAGES, headers=sent(f"sk-{uuid.uuid4().hex}") | there)
            codes.append(guess.status_code)
        assert codes == [401] * 30 + [429] * 2
        error(guess, 429, "RATE_LIMITED")
        assert 0 < int(guess.headers["retry-after"]) <= 60
        assert (await client.get(MESSAGES, headers=sent(secret) | there)).status_code == 200
