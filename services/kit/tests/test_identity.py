"""Tokens that were verified are remembered, no longer than they are good."""

import time

import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody
from parley.auth.v1.jwks_service_pb2_grpc import JwksServiceServicer, add_JwksServiceServicer_to_server
from parley_kit import identity
from parley_kit.errors import Unauthenticated
from parley_kit.identity import RemoteJwksVerifier, VerifiedTokens
from parley_kit.testing import serve_in_process


class Jwks(JwksServiceServicer):
    def __init__(self, tokens):
        self.tokens = tokens

    async def GetJwks(self, request, context):
        return HttpBody(data=self.tokens.jwks())


@pytest_asyncio.fixture
async def verifier(tokens):
    async with serve_in_process([(Jwks(tokens), add_JwksServiceServicer_to_server)], tokens) as (channel, _):
        yield RemoteJwksVerifier(channel)


@pytest.fixture
def verified(monkeypatch):
    """The tokens whose signature was looked at."""
    seen, verify = [], identity.verify_claims
    monkeypatch.setattr(identity, "verify_claims", lambda token, keys: seen.append(token) or verify(token, keys))
    return seen


async def test_a_good_token_is_verified_once(verifier, tokens, verified):
    first, second = tokens.user(), tokens.user()
    for token in (first, second, first, second, first):
        principal = await verifier.verify(token)
        assert principal == await tokens.verify(token)
    assert verified == [first, second]


async def test_a_bad_token_is_refused_however_often_it_comes(verifier, tokens, verified):
    await verifier.verify(tokens.user())
    good = tokens.user()
    await verifier.verify(good)
    for bad in (tokens.expired(), tokens.forged(), tokens.user(aud="another"), good + "x", good[:-4] + "AAAA"):
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await verifier.verify(bad)


async def test_a_remembered_token_ends_when_it_expires(verifier, tokens, monkeypatch):
    now = time.time()
    token = tokens.user(exp=int(now) + 100)
    await verifier.verify(token)
    monkeypatch.setattr(time, "time", lambda: now + 99)
    await verifier.verify(token)
    monkeypatch.setattr(time, "time", lambda: now + 100 + identity.CLOCK_SKEW_SECONDS + 1)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_new_keys_make_it_forget(verifier, tokens, verified):
    token = tokens.user()
    await verifier.verify(token)
    verifier._fetched_at = float("-inf")
    await verifier._refresh("a key of tomorrow")
    await verifier.verify(token)
    assert verified == [token, token]


def test_what_is_remembered_is_bounded_and_no_token(tokens, monkeypatch):
    monkeypatch.setattr(identity, "_MOST_REMEMBERED", 4)
    remembered = VerifiedTokens()
    issued = [tokens.user() for _ in range(9)]
    for token in issued:
        remembered.put(token, identity.Principal("somebody", "user"))
        assert remembered.get(token) is not None
        assert len(remembered._known) <= 4
    assert not any(token.encode() in key for token in issued for key in remembered._known)
