import datetime as dt
import json
import uuid
from base64 import urlsafe_b64encode

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from .shape import error


async def test_sign_up_then_me(edge, session, bearer):
    assert set(session) == {"user", "accessToken", "refreshToken", "expiresIn"}
    assert set(session["user"]) == {"id", "email", "createTime", "emailVerified"}
    assert session["expiresIn"] == 900
    me = await edge.get("/v1/me", headers=bearer)
    assert (me.status_code, me.json()) == (200, session["user"] | {"emailVerified": True})


async def test_sign_in_and_refresh(edge, session):
    signed_in = await edge.post("/v1/auth/signin", json={"email": "SESSION@example.org", "password": "a good password"})
    assert signed_in.status_code == 200
    refreshed = await edge.post("/v1/auth/refresh", json={"refreshToken": signed_in.json()["refreshToken"]})
    assert refreshed.json()["user"] == session["user"] | {"emailVerified": True}
    again = await edge.post("/v1/auth/refresh", json={"refreshToken": signed_in.json()["refreshToken"]})
    assert again.json()["refreshToken"] == refreshed.json()["refreshToken"]
    await edge.post("/v1/auth/refresh", json={"refreshToken": again.json()["refreshToken"]})
    grandparent = await edge.post("/v1/auth/refresh", json={"refreshToken": signed_in.json()["refreshToken"]})
    error(grandparent, 401, "INVALID_REFRESH_TOKEN")


async def signed_up(edge, auth, **headers):
    """Sign up and prove the address by its mail."""
    body = {"email": f"{uuid.uuid4().hex}@example.org", "password": "a good password"}
    session = (await edge.post("/v1/auth/signup", json=body, headers=headers)).json()
    proof = {"token": await auth.mailed(body["email"])}
    bearer = {"authorization": f"Bearer {session['accessToken']}"}
    assert (await edge.post("/v1/auth/verify-email", json=proof, headers=bearer)).status_code == 200
    return body, session


async def test_a_forgotten_password(edge, auth):
    account, _ = await signed_up(edge, auth)
    email = account["email"]
    assert (await edge.post("/v1/auth/password-reset", json={"email": email})).json() == {}
    reset = {"token": await auth.mailed(email), "newPassword": "a better password"}
    assert (await edge.post("/v1/auth/password-reset:confirm", json=reset)).json() == {}
    told = error(await edge.post("/v1/auth/password-reset:confirm", json=reset), 400, "INVALID_ARGUMENT")
    assert told["param"] == "token"
    assert (await edge.post("/v1/auth/signin", json=account | {"password": "a better password"})).status_code == 200


async def test_a_guest_is_upgraded(edge, auth):
    guest = (await edge.post("/v1/auth/guest", json={})).json()
    bearer = {"authorization": f"Bearer {guest['accessToken']}"}
    account = {"email": f"{uuid.uuid4().hex}@example.org", "password": "a good password"}
    upgraded = (await edge.post("/v1/me:upgrade", json=account, headers=bearer)).json()
    assert (upgraded["id"], upgraded["email"]) == (guest["user"]["id"], account["email"])
    assert (await edge.post("/v1/auth/verify-email:resend", json={}, headers=bearer)).json() == {}


async def test_devices(edge, auth):
    account, phone = await signed_up(edge, auth, **{"user-agent": "Parley/1.0 (iPhone)"})
    desk = (await edge.post("/v1/auth/signin", json=account | {"deviceName": "desk"})).json()
    bearer = {"authorization": f"Bearer {desk['accessToken']}"}
    listed = (await edge.get("/v1/auth/sessions", headers=bearer)).json()
    assert set(listed) == {"sessions", "nextPageToken"}
    assert set(listed["sessions"][0]) == {"id", "deviceName", "createTime", "lastUseTime", "current"}
    assert [(found["deviceName"], found["current"]) for found in listed["sessions"]] == [
        ("desk", True),
        ("Parley/1.0 (iPhone)", False),
    ]
    first = (await edge.get("/v1/auth/sessions", params={"pageSize": 1}, headers=bearer)).json()
    rest = await edge.get("/v1/auth/sessions", params={"pageToken": first["nextPageToken"]}, headers=bearer)
    assert first["sessions"] + rest.json()["sessions"] == listed["sessions"]

    path = f"/v1/auth/sessions/{listed['sessions'][1]['id']}"
    deleted = await edge.delete(path, headers=bearer)
    assert (deleted.status_code, deleted.json()) == (200, {})
    error(await edge.delete(path, headers=bearer), 404, "NOT_FOUND")
    gone = await edge.post("/v1/auth/refresh", json={"refreshToken": phone["refreshToken"]})
    error(gone, 401, "INVALID_REFRESH_TOKEN")


@pytest.mark.parametrize("path", ["/v1/auth/signout", "/v1/auth/signout-all"])
@pytest.mark.parametrize("body", [{"json": {}}, {}])
async def test_signing_out(edge, auth, path, body):
    _, session = await signed_up(edge, auth)
    answer = await edge.post(path, headers={"authorization": f"Bearer {session['accessToken']}"}, **body)
    assert (answer.status_code, answer.json()) == (200, {})
    gone = await edge.post("/v1/auth/refresh", json={"refreshToken": session["refreshToken"]})
    error(gone, 401, "INVALID_REFRESH_TOKEN")


async def test_changing_the_password(edge, auth):
    account, session = await signed_up(edge, auth)
    bearer = {"authorization": f"Bearer {session['accessToken']}"}
    wrong = {"currentPassword": "wrong", "newPassword": "a better password"}
    told = error(await edge.post("/v1/auth/password", json=wrong, headers=bearer), 400, "INVALID_ARGUMENT")
    assert told["param"] == "currentPassword"
    right = wrong | {"currentPassword": account["password"]}
    assert (await edge.post("/v1/auth/password", json=right, headers=bearer)).status_code == 200
    error(await edge.post("/v1/auth/signin", json=account), 401, "INVALID_CREDENTIALS")
    assert (await edge.post("/v1/auth/signin", json=account | {"password": "a better password"})).status_code == 200


async def test_too_many_guesses_say_when_to_come_back(edge):
    body = {"email": f"{uuid.uuid4().hex}@example.org", "password": "wrong"}
    for _ in range(10):
        error(await edge.post("/v1/auth/signin", json=body), 401, "INVALID_CREDENTIALS")
    answer = await edge.post("/v1/auth/signin", json=body)
    error(answer, 429, "RATE_LIMITED")
    assert 800 < int(answer.headers["retry-after"]) <= 900


@pytest.mark.parametrize("agent", ["Parley (Zoë)".encode(), bytes(range(0xF0, 0x100)), b"x" * 3000, b""])
async def test_whatever_a_user_agent_is_it_does_not_keep_one_out(edge, auth, agent):
    _, session = await signed_up(edge, auth, **{"user-agent": agent})
    listed = await edge.get("/v1/auth/sessions", headers={"authorization": f"Bearer {session['accessToken']}"})
    (found,) = listed.json()["sessions"]
    assert len(found["deviceName"]) <= 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/auth/sessions"),
        ("DELETE", "/v1/auth/sessions/0190a0a0-0000-7000-8000-000000000001"),
        ("POST", "/v1/auth/signout"),
        ("POST", "/v1/auth/signout-all"),
        ("POST", "/v1/auth/password"),
        ("POST", "/v1/auth/verify-email"),
        ("POST", "/v1/auth/verify-email:resend"),
        ("POST", "/v1/me:upgrade"),
    ],
)
async def test_what_is_not_public_under_auth_stops_at_envoy_without_a_token(edge, method, path):
    told = error(await edge.request(method, path), 401, "UNAUTHENTICATED")
    assert "/v1/auth/signin" in told["message"]  # Envoy's own words


async def test_refusals_of_auth_keep_their_reason(edge, session):
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
