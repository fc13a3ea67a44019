import datetime as dt
import json
from base64 import urlsafe_b64encode

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from .shape import error


async def test_sign_up_then_me(edge, session, bearer):
    assert set(session) == {"user", "accessToken", "refreshToken", "expiresIn"}
    assert set(session["user"]) == {"id", "email", "createTime"}
    assert session["expiresIn"] == 900
    me = await edge.get("/v1/me", headers=bearer)
    assert (me.status_code, me.json()) == (200, session["user"])


async def test_sign_in_and_refresh(edge, session):
    signed_in = await edge.post("/v1/auth/signin", json={"email": "SESSION@example.org", "password": "a good password"})
    assert signed_in.status_code == 200
    refreshed = await edge.post("/v1/auth/refresh", json={"refreshToken": signed_in.json()["refreshToken"]})
    assert refreshed.json()["user"] == session["user"]
    again = await edge.post("/v1/auth/refresh", json={"refreshToken": signed_in.json()["refreshToken"]})
    error(again, 401, "INVALID_REFRESH_TOKEN")


async def test_refusals_of_auth_keep_their_reason(edge, session):
    taken = await edge.post("/v1/auth/signup", json={"email": "session@example.org", "password": "a good password"})
    error(taken, 409, "EMAIL_TAKEN")
    wrong = await edge.post("/v1/auth/signin", json={"email": "session@example.org", "password": "wrong"})
    error(wrong, 401, "INVALID_CREDENTIALS")
    short = error(
        await edge.post("/v1/auth/signup", json={"email": "new@example.org", "password": "short"}),
        400,
        "INVALID_ARGUMENT",
    )
    assert short["param"] == "password"
    assert [detail["field"] for detail in short["details"]] == ["password"]


async def test_the_key_set(edge, session):
    answer = await edge.get("/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    claims = jwt.decode(session["accessToken"], KeySet.import_key_set(answer.json()), algorithms=["ES256"]).claims
    assert claims["sub"] == session["user"]["id"]


def claims(**changed):
    issued = int(dt.datetime.now(dt.UTC).timestamp())
    made = {"iss": "parley", "aud": "parley", "sub": "x", "role": "admin", "iat": issued, "exp": issued + 900}
    return {name: value for name, value in (made | changed).items() if value is not None}


def signed(key, kid, **changed):
    return jwt.encode({"alg": "ES256", "kid": kid}, claims(**changed), key, algorithms=["ES256"])


def unsigned(kid):
    parts = (
        urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none", "kid": kid}, claims())
    )
    return ".".join(parts) + "."


TOKENS = {
    "none": lambda key: None,
    "blank": lambda key: ".",
    "garbage": lambda key: "a.b.c",
    "expired": lambda key: signed(key, key.kid, exp=int(dt.datetime.now(dt.UTC).timestamp()) - 60),
    "no expiry": lambda key: signed(key, key.kid, exp=None),
    "forged with our kid": lambda key: signed(ECKey.generate_key("P-256"), key.kid),
    "forged with an unknown kid": lambda key: signed(ECKey.generate_key("P-256"), "unknown"),
    "alg none": lambda key: unsigned(key.kid),
    "other audience": lambda key: signed(key, key.kid, aud="somebody"),
    "no audience": lambda key: signed(key, key.kid, aud=None),
    "other issuer": lambda key: signed(key, key.kid, iss="somebody"),
}


@pytest.mark.parametrize("name", TOKENS)
async def test_bad_identities_stop_at_envoy(edge, auth, messages, name):
    token = TOKENS[name](auth.key)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    messages.seen.clear()
    told = error(await edge.get("/v1/conversations/c/messages", headers=headers), 401, "UNAUTHENTICATED")
    assert "/v1/auth/signin" in told["message"]
    assert messages.seen == []


async def test_the_same_token_without_a_fault_is_let_through(edge, auth, messages):
    token = signed(auth.key, auth.key.kid)
    messages.seen.clear()
    answer = await edge.get("/v1/conversations/c/messages", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    ((_, metadata),) = messages.seen
    assert metadata["authorization"] == f"Bearer {token}"  # the service verifies it again


async def test_a_token_in_the_query_string_is_none(edge, session):
    answer = await edge.get("/v1/conversations/c/messages", params={"access_token": session["accessToken"]})
    error(answer, 401, "UNAUTHENTICATED")


async def test_public_paths_do_not_mind_a_stale_token(edge):
    answer = await edge.post(
        "/v1/auth/signin", json={"email": "a@example.org", "password": "x"}, headers={"authorization": "Bearer stale"}
    )
    error(answer, 401, "INVALID_CREDENTIALS")
