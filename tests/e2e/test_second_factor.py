"""Signing in with a code of an authenticator app, through Envoy."""

import pyotp

from ..framework.person import PASSWORD, Person, good, refusal


async def test_a_code_is_asked_for_and_counts_once(edge, me):
    await me.verify()
    enrolled = await me.post("/v1/auth/totp", password=PASSWORD)
    app = pyotp.parse_uri(enrolled["uri"])
    confirmed = await me.post("/v1/auth/totp/confirm", code=app.now())
    assert len(confirmed["recoveryCodes"]) == 10
    assert (await me.get("/v1/auth/totp"))["recoveryCodesLeft"] == 10

    async def challenge():
        answer = good(await edge.post("/v1/auth/signin", json={"email": me.email, "password": PASSWORD}))
        assert (answer["accessToken"], answer["refreshToken"], answer.get("user")) == ("", "", None)
        assert answer["mfa"]["expiresIn"] == 300
        return answer["mfa"]["token"]

    async def complete(token, code):
        return await edge.post("/v1/auth/mfa", json={"mfaToken": token, "code": code})

    token = await challenge()
    assert refusal(await complete(token, app.now()))[:2] == (401, "INVALID_CODE")  # it confirmed
    session = good(await complete(token, confirmed["recoveryCodes"][0]))
    assert set(session) == {"user", "accessToken", "refreshToken", "expiresIn"}
    assert refusal(await complete(token, confirmed["recoveryCodes"][1]))[:2] == (401, "INVALID_MFA_TOKEN")
    again = Person(edge, me.email, session)
    assert (await again.get("/v1/auth/totp"))["recoveryCodesLeft"] == 9
    assert good(await edge.post("/v1/auth/refresh", json={"refreshToken": session["refreshToken"]}))["accessToken"]
    assert (
        await again.call("POST", "/v1/auth/totp/disable", password=PASSWORD, code=confirmed["recoveryCodes"][2])
    ).is_success
    assert good(await edge.post("/v1/auth/signin", json={"email": me.email, "password": PASSWORD}))["accessToken"]
