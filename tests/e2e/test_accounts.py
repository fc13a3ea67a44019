"""Signing up, signing in, renewing, and who one is."""

import asyncio
import base64
import json

import pytest

from ..framework.person import PASSWORD, Person, good, mailed_token, mails, refusal


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


async def test_a_proved_address_signs_in_to_the_same_account(edge, me):
    before = await edge.post("/v1/auth/signin", json={"email": me.email, "password": PASSWORD})
    assert refusal(before)[:2] == (401, "INVALID_CREDENTIALS")
    await me.verify()
    assert (await me.get("/v1/me"))["emailVerified"]
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


async def test_signing_up_with_a_known_address_tells_only_its_mailbox(edge, me, mesh):
    await me.verify()
    again = good(await edge.post("/v1/auth/signup", json={"email": me.email, "password": "another password"}))
    assert again["user"]["email"] == me.email
    assert again["user"]["id"] != me.id
    answer = await edge.post("/v1/auth/signin", json={"email": me.email, "password": "another password"})
    assert refusal(answer)[:2] == (401, "INVALID_CREDENTIALS")
    async with asyncio.timeout(30):
        while "You have an account already" not in [mail["subject"] for mail in mails(mesh.mesh.outbox, me.email)]:
            await asyncio.sleep(0.1)


async def test_a_forgotten_password_is_reset_by_mail(edge, me, mesh):
    await me.verify()
    good(await edge.post("/v1/auth/password-reset", json={"email": me.email}))
    good(await edge.post("/v1/auth/password-reset", json={"email": f"x{me.email}"}))
    token = await mailed_token(mesh.mesh.outbox, me.email, "Choose a new password")
    reset = {"token": token, "newPassword": "another password"}
    good(await edge.post("/v1/auth/password-reset:confirm", json=reset))
    assert refusal(await edge.post("/v1/auth/password-reset:confirm", json=reset)) == (400, "INVALID_ARGUMENT", "token")
    gone = await edge.post("/v1/auth/refresh", json={"refreshToken": me.session["refreshToken"]})
    assert refusal(gone)[:2] == (401, "INVALID_REFRESH_TOKEN")
    good(await edge.post("/v1/auth/signin", json={"email": me.email, "password": "another password"}))


async def test_a_token_is_mailed_again(me):
    good(await me.call("POST", "/v1/auth/verify-email:resend"))
    await me.verify()
    assert refusal(await me.call("POST", "/v1/auth/verify-email:resend"))[:2] == (409, "FAILED_PRECONDITION")


@pytest.mark.parametrize("email", ["known", "unknown"])
async def test_a_wrong_password_and_an_unknown_address_look_alike(edge, me, email):
    await me.verify()
    address = me.email if email == "known" else f"x{me.email}"
    answer = await edge.post("/v1/auth/signin", json={"email": address, "password": "wrong horse"})
    assert refusal(answer)[:2] == (401, "INVALID_CREDENTIALS")
    assert answer.json()["error"]["message"] == "E-mail and password do not match an account."


async def test_healthz(edge):
    assert good(await edge.get("/healthz")) == {"status": "SERVING"}
