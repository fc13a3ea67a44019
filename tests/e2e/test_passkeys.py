"""Signing in with a passkey, through Envoy: what devices are given and give is WebAuthn's own JSON."""

import pytest

from ..framework.authenticator import Authenticator
from ..framework.person import good, refusal


@pytest.fixture
def authenticator():
    return Authenticator()


async def test_a_passkey_signs_in_without_a_user_name(edge, me, authenticator):
    await me.verify()
    options = (await me.post("/v1/auth/passkeys/options"))["options"]
    assert options["timeout"] == 300000
    assert [parameter["alg"] for parameter in options["pubKeyCredParams"]] == [-8, -7, -257]
    passkey = await me.post("/v1/auth/passkeys", credential=authenticator.create(options), name="my phone")
    assert {"id", "name", "synced", "createTime"} <= set(passkey)

    async def answer():
        return authenticator.get(good(await edge.post("/v1/auth/passkey/options", json={}))["options"])

    credential = await answer()
    session = good(await edge.post("/v1/auth/passkey", json={"credential": credential}))
    assert session["user"]["id"] == me.id
    again = await edge.post("/v1/auth/passkey", json={"credential": credential})
    assert refusal(again)[:2] == (401, "INVALID_PASSKEY")

    path = f"/v1/auth/passkeys/{passkey['id']}"
    assert (await me.call("PATCH", path, name="old phone")).json()["name"] == "old phone"
    (listed,) = (await me.get("/v1/auth/passkeys"))["passkeys"]
    assert listed["lastUseTime"]
    assert (await me.call("DELETE", path)).status_code == 200
    gone = await edge.post("/v1/auth/passkey", json={"credential": await answer()})
    assert refusal(gone)[:2] == (401, "INVALID_PASSKEY")
