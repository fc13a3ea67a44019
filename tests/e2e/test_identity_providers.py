"""Signing in with an identity provider, through Envoy."""

import asyncio
import uuid

import pytest
from parley_auth.oidc_keys import FETCH_AT_MOST_EVERY

from ..framework.person import Person, good, refusal


@pytest.fixture
def enter(edge, issuer):
    async def sign_in(**claims):
        nonce = good(await edge.post("/v1/auth/oidc/nonce", json={}))["nonce"]
        body = {"provider": "local", "idToken": issuer.token(nonce, **claims), "nonce": nonce}
        return await edge.post("/v1/auth/oidc", json=body)

    return sign_in


async def test_somebody_of_a_provider_signs_in_and_chats(edge, enter, issuer):
    claims = {"sub": uuid.uuid4().hex, "email": f"{uuid.uuid4().hex}@example.org", "email_verified": "true"}
    session = good(await enter(**claims))
    assert set(session) == {"user", "accessToken", "refreshToken", "expiresIn"}
    assert session["user"]["email"] == claims["email"]
    person = Person(edge, claims["email"], session)
    assert (await person.get("/v1/me"))["id"] == person.id
    assert (await person.credits())[0] > 0  # an account like any other
    await asyncio.sleep(FETCH_AT_MOST_EVERY)
    issuer.rotate()
    assert good(await enter(**claims))["user"]["id"] == person.id
    (identity,) = (await person.get("/v1/auth/identities"))["identities"]
    assert set(identity) == {"id", "provider", "email", "createTime", "lastUseTime"}
    last = await person.call("DELETE", f"/v1/auth/identities/{identity['id']}")
    assert refusal(last)[:2] == (409, "FAILED_PRECONDITION")


async def test_a_linked_identity_opens_the_account(me, enter, issuer):
    await me.verify()  # else nothing would be left when it is unlinked
    subject = uuid.uuid4().hex
    link = await me.link(issuer, sub=subject)
    assert good(await enter(sub=subject))["user"]["id"] == me.id
    assert (await me.call("DELETE", f"/v1/auth/identities/{link}")).status_code == 200
    assert good(await enter(sub=subject))["user"]["id"] != me.id


async def test_a_token_for_another_app_is_refused(enter):
    answer = await enter(aud="org.example.another")
    assert refusal(answer)[:2] == (401, "INVALID_ID_TOKEN")
    assert "claim aud" in answer.json()["error"]["message"]


async def test_linking_needs_a_token_of_ours(edge):
    body = {"provider": "local", "idToken": "x", "nonce": "x"}
    assert refusal(await edge.post("/v1/auth/identities", json=body))[:2] == (401, "UNAUTHENTICATED")
