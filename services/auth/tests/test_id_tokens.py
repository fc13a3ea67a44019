"""Id tokens with one thing wrong. test_a_mutant_is_found proves that each check can fail."""

import base64
import hmac
import json

import pytest
from joserfc.jws import JWSRegistry
from parley_auth import challenges, id_tokens
from parley_auth.id_tokens import LEEWAY_SECONDS, IdTokens
from parley_kit.errors import ParleyError, Unavailable

from tests.framework.issuer import AUDIENCE, new_key

from .world import issuer_keys, provider, refusal


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(token, **header):
    return f"{encoded({'alg': 'none'} | header)}.{token.split('.')[1]}."


def by_shared_secret(issuer, token):
    """Sign with the public key as if it were a secret: what a verifier takes for its own when it believes `alg`."""
    kid, key = next(iter(issuer.keys.items()))
    signed = f"{encoded({'alg': 'HS256', 'kid': kid})}.{token.split('.')[1]}"
    mac = hmac.digest(key.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def wrong(issuer, nonce, clock):
    """Return tokens by what is wrong with them; each has one thing wrong only."""
    now, second = clock(), int(clock().timestamp())
    not_allowed = issuer.add("ES384")
    token = issuer.token(nonce, now=now)
    head, body, signature = token.split(".")
    return {
        "another audience": issuer.token(nonce, now=now, aud="org.example.another"),
        "no audience": issuer.token(nonce, now=now, aud=None),
        "several audiences, for another": issuer.token(nonce, now=now, aud=[AUDIENCE, "x"], azp="x"),
        "several audiences, for nobody": issuer.token(nonce, now=now, aud=[AUDIENCE, "x"]),
        "another issuer": issuer.token(nonce, now=now, iss="https://accounts.google.com"),
        "no issuer": issuer.token(nonce, now=now, iss=None),
        "another nonce": issuer.token("another", now=now),
        "no nonce": issuer.token(nonce, now=now, nonce=None),
        "a list of nonces": issuer.token(nonce, now=now, nonce=[nonce]),
        "expired": issuer.token(nonce, now=now, exp=second - LEEWAY_SECONDS),
        "no expiry": issuer.token(nonce, now=now, exp=None),
        "expiry is text": issuer.token(nonce, now=now, exp="tomorrow"),
        "issued in the future": issuer.token(nonce, now=now, iat=second + LEEWAY_SECONDS + 1),
        "no time of issue": issuer.token(nonce, now=now, iat=None),
        "not yet valid": issuer.token(nonce, now=now, nbf=second + LEEWAY_SECONDS + 1),
        "no subject": issuer.token(nonce, now=now, sub=None),
        "an empty subject": issuer.token(nonce, now=now, sub=""),
        "a long subject": issuer.token(nonce, now=now, sub="x" * 256),
        "a subject with NUL": issuer.token(nonce, now=now, sub="x\0"),
        "a subject that is not ASCII": issuer.token(nonce, now=now, sub="ü"),
        "a number as subject": issuer.token(nonce, now=now, sub=7),
        "an algorithm not allowed": issuer.token(nonce, now=now, kid=not_allowed, alg="ES384"),
        "unsigned": unsigned(token),
        "unsigned, with a key id": unsigned(token, kid=next(iter(issuer.keys))),
        "signed with the public key": by_shared_secret(issuer, token),
        "another's key": issuer.token(nonce, now=now, key=new_key("RS256", "x")),
        "an unknown key id": issuer.token(nonce, now=now, kid="x", key=new_key("RS256", "x")),
        "other claims than were signed": f"{head}.{encoded({'sub': 'x'})}.{signature}",
        "no signature": f"{head}.{body}.",
        "no token": "a.b.c",
        "no claims": f"{head}..{signature}",
    }


def verifier(issuer, clock):
    providers = [provider(issuer)]
    return IdTokens({"local": providers[0]}, issuer_keys(clock, providers), clock=clock)


async def accepted(issuer, clock):
    """Return what is wrong with every token that is accepted all the same."""
    found, tokens = [], wrong(issuer, "nonce", clock)
    for what, token in tokens.items():
        try:
            await verifier(issuer, clock).verify("local", token, "nonce")
        except ParleyError as error:
            if error.code != "INVALID_ID_TOKEN" or token in error.message:
                found.append(f"{what}: {error}")
        else:
            found.append(what)
    return found


async def test_none_is_accepted(issuer, clock):
    assert await accepted(issuer, clock) == []


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256"])
async def test_good_ones_are(issuer, clock, alg):
    issuer.rotate(alg)
    second = int(clock().timestamp())
    for claims in (
        {},
        {"aud": [AUDIENCE]},
        {"aud": "another.of.ours"},
        {"aud": [AUDIENCE, "x"], "azp": AUDIENCE},
        {"aud": AUDIENCE, "azp": "the.android.client"},  # Google's way
        {"exp": second - LEEWAY_SECONDS + 1},
        {"iat": second + LEEWAY_SECONDS, "nbf": second + LEEWAY_SECONDS},
    ):
        token = issuer.token("nonce", now=clock(), alg=alg, sub="who", **claims)
        assert (await verifier(issuer, clock).verify("local", token, "nonce")).subject == "who"


async def test_the_refusal_says_which_check_failed(issuer, clock):
    tokens = wrong(issuer, "nonce", clock)
    for what, said in {
        "another audience": "claim aud",
        "expired": "expired",
        "another nonce": "nonce",
        "no time of issue": "no claim iat",
    }.items():
        with pytest.raises(ParleyError, match=said):
            await verifier(issuer, clock).verify("local", tokens[what], "nonce")


def without(claim):
    rules = id_tokens._rules

    def mutant(provider):
        return {name: rule for name, rule in rules(provider).items() if name != claim}

    return lambda patch: patch.setattr(id_tokens, "_rules", mutant)


def any_algorithm(patch):
    every = [*JWSRegistry.algorithms]
    patch.setattr(id_tokens, "_signatures", lambda _: JWSRegistry(algorithms=every, strict_check_header=False))


MUTANTS = {
    "the audience is not checked": (without("aud"), "another audience"),
    "the issuer is not checked": (without("iss"), "another issuer"),
    "the nonce is not checked": (lambda p: p.setattr(id_tokens, "_nonce_is", lambda *_: True), "another nonce"),
    "any algorithm will do": (any_algorithm, "an algorithm not allowed"),
    "the leeway is large": (lambda p: p.setattr(id_tokens, "LEEWAY_SECONDS", 3600), "expired"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_mutant_is_found(issuer, clock, monkeypatch, mutant):
    tokens = wrong(issuer, "nonce", clock)  # before the leeway is broken
    change, what = MUTANTS[mutant]
    change(monkeypatch)
    await verifier(issuer, clock).verify("local", tokens[what], "nonce")


async def test_a_mutant_that_takes_a_nonce_twice_is_found(client, issuer, clock, monkeypatch):
    async def taken(*_):
        return True

    monkeypatch.setattr(challenges.Challenges, "take", taken)
    token = issuer.token("made up", now=clock())
    for _ in range(2):
        await client.sign_in_oidc(token, "made up")
    monkeypatch.undo()
    assert await refusal(client.sign_in_oidc(token, "made up")) == "INVALID_ID_TOKEN"


async def test_keys_that_cannot_be_fetched_are_nobodys_bad_token(issuer, clock):
    issuer.status = 500
    with pytest.raises(Unavailable):
        await verifier(issuer, clock).verify("local", issuer.token("nonce", now=clock()), "nonce")
