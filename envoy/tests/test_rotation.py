"""A whole rotation of the signing keys, with short times, under requests that never pause: none fails.

Real auth, real Envoy, and a service that verifies with the keys that auth publishes, as every service of the mesh does.
"""

import asyncio
import datetime as dt
import json
from collections import Counter
from types import SimpleNamespace

import httpx
import pytest
from joserfc.jwk import ECKey
from parley.auth.v1.jwks_service_pb2_grpc import add_JwksServiceServicer_to_server
from parley.chat.v1.message_service_pb2_grpc import add_MessageServiceServicer_to_server
from parley_auth.access_tokens import AccessTokens
from parley_auth.rpc.jwks import JwksService
from parley_auth.signing_key_files import FIRST, read_keys, rotate
from parley_auth.signing_keys import SigningKeys
from parley_kit import identity
from parley_kit.identity import RemoteJwksVerifier, key_id
from parley_kit.periodic import Periodic
from parley_kit.testing import serve_in_process

from . import proxy
from .proxy import envoy

MESSAGES = "/v1/conversations/0190a0a0-0000-7000-8000-000000000001/messages"
USER = "0190a0a0-0000-7000-8000-000000000002"
LIFE = dt.timedelta(seconds=3)
MARGIN = dt.timedelta(seconds=7)  # 5 s of leeway
LEAD = dt.timedelta(seconds=5)
JWKS_CACHE = "cache_duration: 1s"


def now():
    return dt.datetime.now(dt.UTC)


async def rotation(folder, messages, tmp_path, *, lead):
    """Rotate while requests go on; return how they were answered, by which keys, and what was published at the end."""
    (folder / FIRST).write_bytes(ECKey.generate_key("P-256", private=True).as_pem(private=True))
    keys = SigningKeys(lambda: read_keys(folder), clock=now, longest=LIFE, margin=MARGIN)
    tokens = AccessTokens(keys, LIFE)
    reloading = Periodic("keys", keys.reload, every_seconds=0.2)
    await reloading.start()
    seen = SimpleNamespace(answers=Counter(), kids=[], stop=False)
    jwks = (JwksService(tokens), add_JwksServiceServicer_to_server)
    async with serve_in_process([jwks], tokens) as (channel, auth):
        service = [(messages, add_MessageServiceServicer_to_server)]
        async with (
            serve_in_process(service, RemoteJwksVerifier(channel)) as (_, chat),
            envoy({"auth": auth, "chat": chat}, tmp_path) as running,
            httpx.AsyncClient(base_url=running.edge) as client,
        ):

            async def go_on():
                """Ask with a fresh token, and with the oldest that still lives."""
                held = []
                while not seen.stop:
                    held = [(end, token) for end, token in held if end > now() + dt.timedelta(seconds=0.5)]
                    held.append((now() + LIFE, tokens.issue(USER, "user", now())))
                    for _, token in (held[0], held[-1]):
                        answer = await client.get(MESSAGES, headers={"authorization": f"Bearer {token}"})
                        seen.answers[answer.status_code] += 1
                        seen.kids.append(key_id(token))
                    await asyncio.sleep(0.02)

            asking = [asyncio.create_task(go_on()) for _ in range(3)]
            await asyncio.sleep(1)
            rotate(folder, now=now(), lead=lead, longest=LIFE + MARGIN)
            await asyncio.sleep((lead + LIFE + MARGIN).total_seconds() + 2)
            seen.stop = True
            await asyncio.gather(*asking)
            published = (await client.get("/.well-known/jwks.json")).json()["keys"]
    await reloading.stop()
    return seen, [key["kid"] for key in published]


@pytest.fixture
def short_times(monkeypatch):
    """Envoy and the service ask for keys every second."""
    whole = proxy.render
    monkeypatch.setattr(proxy, "render", lambda values: whole(values).replace("cache_duration: 60s", JWKS_CACHE))
    monkeypatch.setattr(identity, "_KEYS_LAST", 1.0)
    monkeypatch.setattr(identity, "_REFRESH_AT_MOST_EVERY", 0.2)


async def test_nobody_notices_a_rotation(messages, tmp_path, short_times):
    folder = tmp_path / "keys"
    folder.mkdir()
    seen, published = await rotation(folder, messages, tmp_path, lead=LEAD)
    assert set(seen.answers) == {200}, seen.answers
    assert seen.answers[200] > 50
    old, new = dict.fromkeys(seen.kids)
    assert seen.kids[-1] == new
    assert published == [new]
    assert old not in json.dumps(published)


async def test_a_key_that_signs_before_it_is_known_is_noticed(messages, tmp_path, short_times, monkeypatch):
    """The test of the test: without the lead, and with caches of a minute, the same requests fail."""
    monkeypatch.setattr(proxy, "render", proxy._load_render().render)
    folder = tmp_path / "keys"
    folder.mkdir()
    seen, _ = await rotation(folder, messages, tmp_path, lead=dt.timedelta(seconds=1))
    assert seen.answers[401] > 0
