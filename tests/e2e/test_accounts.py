"""Signing up, signing in, renewing, and who one is."""

import base64
import json

import pytest

from ..framework.person import PASSWORD, Person, good, refusal


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


async def test_sign_up_gives_a_session(me):
    assert me.session["expiresIn"] == 900
    assert me.session["refreshToken"]
    told = claims(me.token)
    assert told["sub"] == me.id
    assert told["exp"] - told["iat"] == 900
    assert json.loads(base64.urlsafe_b64decode(me.token.split(".")[0] + "=="))["alg"] == "ES256"


async def test_me_is_who_the_token_says(me):
    assert (await me.get("/v1/me"))["email"] == me.email


async def test_sign_in_gives_a_session_of_the_same_account(edge, me):
    answer = await edge.post("/v1/auth/signin", json={"email": me.email.upper(), "password": PASSWORD})
    assert good(answer)["user"]["id"] == me.id


async def test_a_lost_refresh_is_answered_again_and_a_used_one_is_refused(edge, me):
    async def refresh(session):
        return await edge.post("/v1/auth/refresh", json={"refreshToken": session["refreshToken"]})

    renewed = good(await refresh(me.session))
    assert (await Person(edge, me.email, renewed).get("/v1/me"))["id"] == me.id
    assert good(await refresh(me.session))["refreshToken"] == renewed["refreshToken"]
    newest = good(await refresh(renewed))
    for spent in (me.session, newest):  # the grandparent, and then what it was that its return ended
        assert refusal(await refresh(spent))[:2] == (401, "INVALID_REFRESH_TOKEN")


async def test_the_keys_are_public(edge, me):
    keys = good(await edge.get("/.well-known/jwks.json"))["keys"]
    kid = json.loads(base64.urlsafe_b64decode(me.token.split(".")[0] + "=="))["kid"]
    assert kid in {key["kid"] for key in keys}
    assert all("d" not in key for key in keys)


async def test_an_account_has_one_address(edge, me):
    answer = await edge.post("/v1/auth/signup", json={"email": me.email, "password": PASSWORD})
    assert refusal(answer)[:2] == (409, "EMAIL_TAKEN")


@pytest.mark.parametrize("email", ["known", "unknown"])
async def test_a_wrong_password_and_an_unknown_address_look_alike(edge, me, email):
    address = me.email if email == "known" else f"x{me.email}"
    answer = await edge.post("/v1/auth/signin", json={"email": address, "password": "wrong horse"})
    assert refusal(answer)[:2] == (401, "INVALID_CREDENTIALS")
    assert answer.json()["error"]["message"] == "E-mail and password do not match an account."


async def test_healthz(edge):
    assert good(await edge.get("/healthz")) == {"status": "SERVING"}
