"""A session that was taken over: what it may not do alone, and what its owner hears, through Envoy and by mail."""

import asyncio
import uuid

from ..framework.authenticator import Authenticator
from ..framework.person import PASSWORD, Person, good, mailed_token, mails, refusal

NEW = f"{PASSWORD}!"


async def test_whoever_takes_over_a_session_plants_nothing_and_a_reset_throws_him_out(mesh, edge, sql):
    me = await (await Person.sign_up(edge)).verify()
    await sql(
        "auth_app",
        "UPDATE auth.sessions SET created_at = created_at - interval '10 minutes' WHERE user_id = $1 RETURNING id",
        uuid.UUID(me.id),
    )
    refused = await me.call("POST", "/v1/auth/passkeys/options")
    assert refusal(refused)[:2] == (403, "REAUTHENTICATION_REQUIRED")
    assert refusal(await me.call("POST", "/v1/auth/api-keys", name="his", scopes=["chat"]))[0] == 403
    assert refusal(await me.call("POST", "/v1/auth/reauthenticate", password="a guess"))[:2] == (
        400, "INVALID_ARGUMENT",
    )  # fmt: skip

    # He knows the password, too.
    assert (await me.post("/v1/auth/reauthenticate", password=PASSWORD))["expiresIn"] == 600
    his = Authenticator()
    options = (await me.post("/v1/auth/passkeys/options"))["options"]
    await me.post("/v1/auth/passkeys", credential=his.create(options))

    # Its owner is told, and asks for a new password.
    good(await edge.post("/v1/auth/password-reset", json={"email": me.email}))
    token = await mailed_token(me.outbox, me.email, "Choose")
    async with asyncio.timeout(30):
        while "A passkey was added" not in [mail["subject"] for mail in mails(me.outbox, me.email)]:
            await asyncio.sleep(0.05)
    body = {"token": token, "newPassword": NEW}
    good(await edge.post("/v1/auth/password-reset:confirm", json=body))
    answer = his.get(good(await edge.post("/v1/auth/passkey/options", json={}))["options"])
    assert refusal(await edge.post("/v1/auth/passkey", json={"credential": answer}))[:2] == (401, "INVALID_PASSKEY")
    good(await edge.post("/v1/auth/signin", json={"email": me.email, "password": NEW}))
