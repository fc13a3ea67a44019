"""The keys of an issuer: fetched once, kept, rotated, and what an issuer that misbehaves can do: nothing."""

import asyncio

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey
from parley_auth import oidc_keys
from parley_auth.oidc_keys import FETCH_AT_MOST_EVERY, IssuerKeys
from parley_kit.errors import Unavailable

FETCH = ["/.well-known/openid-configuration", "/jwks"]


@pytest.fixture
def keys(issuer, clock):
    web = httpx.AsyncClient(trust_env=False)
    return IssuerKeys(issuer.url, web, lifetime=3600, timer=lambda: clock().timestamp())


def kid(issuer):
    return next(iter(issuer.keys))


async def test_they_are_fetched_once_for_many_who_ask_at_once(keys, issuer):
    found = await asyncio.gather(*(keys.get(kid(issuer)) for _ in range(50)))
    assert all(found)
    assert issuer.asked == FETCH


async def test_they_are_fetched_again_when_they_are_old(keys, issuer, clock):
    gone = kid(issuer)
    await keys.get(gone)
    issuer.rotate()
    clock.pass_by(seconds=3600)
    assert await keys.get(gone)
    clock.pass_by(seconds=1)
    assert await keys.get(gone) is None
    assert issuer.asked == FETCH * 2


async def test_a_new_key_is_found_at_once(keys, issuer, clock):
    await keys.get(kid(issuer))
    issuer.rotate()
    clock.pass_by(seconds=FETCH_AT_MOST_EVERY)
    assert await keys.get(kid(issuer))


async def test_unknown_keys_are_no_flood(keys, issuer, clock):
    await keys.get(kid(issuer))
    for number in range(100):
        assert await keys.get(f"unknown {number}") is None
    assert issuer.asked == FETCH
    clock.pass_by(seconds=FETCH_AT_MOST_EVERY)
    await asyncio.gather(*(keys.get(f"unknown {number}") for number in range(100)))
    assert issuer.asked == FETCH * 2


async def test_failures_are_no_flood_either(keys, issuer):
    issuer.status = 500
    for _ in range(20):
        with pytest.raises(Unavailable):
            await keys.get(kid(issuer))
    assert issuer.asked == FETCH[:1]


async def test_an_issuer_that_is_down_keeps_nobody_out_for_a_day(keys, issuer, clock):
    await keys.get(kid(issuer))
    issuer.status = 500
    clock.pass_by(hours=24, minutes=59)
    assert await keys.get(kid(issuer))
    with pytest.raises(Unavailable):  # whether it has this one cannot be told
        await keys.get("unknown")
    clock.pass_by(minutes=2)
    with pytest.raises(Unavailable):
        await keys.get(kid(issuer))
    issuer.heal()
    clock.pass_by(seconds=FETCH_AT_MOST_EVERY)
    assert await keys.get(kid(issuer))


@pytest.mark.parametrize(
    "misbehaves",
    [
        {"status": 404},
        {"status": 302},
        {"padding": oidc_keys.MAX_BYTES},
        {"discovery": {"issuer": "https://another.example.org"}},
        {"discovery": {"jwks_uri": "http://keys.example.org/jwks"}},
        {"discovery": {"jwks_uri": "file:///etc/passwd"}},
        {"discovery": {"jwks_uri": 7}},
        {"keys": {}},
    ],
    ids=str,
)
async def test_one_that_misbehaves_gives_no_keys(keys, issuer, misbehaves):
    for name, value in misbehaves.items():
        setattr(issuer, name, value)
    with pytest.raises(Unavailable):
        await keys.get(None)


async def test_a_slow_one_is_not_waited_for(keys, issuer, monkeypatch):
    monkeypatch.setattr(oidc_keys, "FETCH_TIMEOUT", 0.2)
    issuer.delay = 1.0
    async with asyncio.timeout(0.9):
        with pytest.raises(Unavailable):
            await keys.get(None)


async def test_keys_that_are_no_good_are_left_out_and_the_others_kept(keys, issuer):
    issuer.more_keys = [
        OctKey.generate_key(256, {"kid": "secret"}).as_dict(private=True),
        {"kty": "RSA", "kid": "weak", "n": "x" * 171, "e": "AQAB"},  # 1024 bits
        {"kty": "AKP", "kid": "of the future", "alg": "ML-DSA-44", "pub": "x"},
        {"kty": "RSA", "kid": "broken", "n": 7, "e": "AQAB"},
        {"kty": "EC", "kid": "no point", "crv": "P-256", "x": "AA", "y": "AA"},
        RSAKey.generate_key(2048).as_dict(private=False) | {"kid": "for encryption", "use": "enc"},
        "no key",
    ]
    found = await keys.get(kid(issuer))
    assert [key.kid for key in found] == [kid(issuer)]
