"""Real Envoy before a real auth and tiny chat; the other services are down."""

import datetime as dt
from types import SimpleNamespace

import httpx
import pytest_asyncio
import sqlalchemy as sa
from joserfc.jwk import ECKey
from parley.chat.v1.message_service_pb2_grpc import add_MessageServiceServicer_to_server
from parley.openai.v1.chat_completions_service_pb2_grpc import add_ChatCompletionsServiceServicer_to_server
from parley_auth.access_tokens import AccessTokens
from parley_auth.accounts import Accounts
from parley_auth.admin import Admin
from parley_auth.api_keys import ApiKeys
from parley_auth.challenges import Challenges, Purpose
from parley_auth.email_addresses import EmailAddresses
from parley_auth.erasures import Erasures, Times
from parley_auth.exports import Exports
from parley_auth.federation import Federation
from parley_auth.guesses import Guesses
from parley_auth.guests import Guests
from parley_auth.id_tokens import IdTokens
from parley_auth.key_exchange import KeyExchange
from parley_auth.mailing import Mailing
from parley_auth.mfa import MfaChallenges
from parley_auth.models import SCHEMA
from parley_auth.passkeys import Passkeys
from parley_auth.password_resets import PasswordResets
from parley_auth.passwords import Passwords
from parley_auth.repository import Repository
from parley_auth.rpc import servicers
from parley_auth.sealing import Sealing
from parley_auth.second_factors import SecondFactors
from parley_auth.service_tokens import SecretFiles, ServiceTokens
from parley_auth.sessions import Sessions
from parley_auth.signing_keys import SigningKeys
from parley_auth.webauthn_ceremonies import Ceremonies
from parley_auth.wrong_keys import WrongKeys
from parley_kit.db import create_engine, new_id
from parley_kit.testing import database, serve_in_process

from .proxy import envoy
from .upstreams import Completions, Messages, serving

KEY_FRESH = dt.timedelta(seconds=1)
OPERATOR_SECRET = "operator-secret-0123456789"


def now():
    return dt.datetime.now(dt.UTC)


@pytest_asyncio.fixture(scope="session")
async def auth(tmp_path_factory):
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "operator").write_text(OPERATOR_SECRET)
    key = ECKey.generate_key("P-256", private=True)
    tokens = AccessTokens(SigningKeys.only(key), dt.timedelta(minutes=15))
    passwords = Passwords(threads=2, queue=64)
    async with database("parley_auth", SCHEMA) as fresh:
        engine = create_engine(fresh.app_url)
        store = Repository(engine)

        async def sql(statement, **values):
            async with engine.begin() as connection:
                await connection.execute(sa.text(statement), values)

        renewal = {"refresh_lifetime": dt.timedelta(days=30), "grace": dt.timedelta(seconds=60)}
        renewal |= {"fresh": dt.timedelta(minutes=10)}
        sessions = Sessions(store, tokens, new_id=new_id, clock=now, **renewal)
        guesses = Guesses(store, clock=now, limit=10, window=dt.timedelta(minutes=15))
        mfa = MfaChallenges(store, clock=now, lifetime=dt.timedelta(minutes=5))
        wrong = WrongKeys(clock=now, limit=30)
        times = {"fresh": KEY_FRESH, "lifetime": dt.timedelta(seconds=90)}
        exchange = KeyExchange(store, tokens, wrong, clock=now, **times)
        mailing = Mailing(store, new_id=new_id, clock=now, limit=5)
        keys = ApiKeys(store, sessions, mailing, exchange.forget, new_id=new_id, clock=now, most=50)
        accounts = Accounts(store, passwords, sessions, guesses, mailing, mfa, new_id=new_id, clock=now)
        addresses = EmailAddresses(store, sessions, mailing, clock=now)
        resets = PasswordResets(store, passwords, mailing, clock=now)
        guests = Guests(store, passwords, sessions, mailing, new_id=new_id)

        async def mailed(email):
            """Return the token that an address was mailed last."""
            statement = sa.text("SELECT token FROM auth.mails WHERE recipient = :email ORDER BY id DESC LIMIT 1")
            async with engine.begin() as connection:
                return (await connection.execute(statement, {"email": email})).scalar_one()

        nonces = Challenges(store, Purpose.OIDC_NONCE, clock=now, lifetime=dt.timedelta(minutes=10))
        id_tokens = IdTokens({}, {}, clock=now)
        federation = Federation(store, id_tokens, nonces, sessions, mfa, mailing, new_id=new_id)
        spans = Times(dt.timedelta(minutes=10), dt.timedelta(minutes=1), dt.timedelta(days=45))
        erasures = Erasures(store, accounts, sessions, {}, spans, new_id=new_id, clock=now)
        exports = Exports(store, sessions, {}, clock=now, every=dt.timedelta(minutes=1), at_once=2)
        service_tokens = ServiceTokens(SecretFiles(secrets), tokens, clock=now)
        passkeys = Passkeys(
            store,
            Ceremonies(rp_id="localhost", rp_name="Parley", origins=["http://localhost"]),
            nonces,
            nonces,
            accounts,
            sessions,
            mailing,
            issuers=[],
            new_id=new_id,
        )
        sealing = Sealing([b"k" * 32])
        second_factors = SecondFactors(
            store, accounts, sessions, guesses, sealing, mailing, app_name="Parley", clock=now
        )
        served = servicers(
            accounts,
            sessions,
            tokens,
            service_tokens,
            keys,
            exchange,
            Admin(store, new_id=new_id, clock=now),
            addresses,
            resets,
            guests,
            federation,
            second_factors,
            passkeys,
            erasures,
            exports,
        )
        async with serve_in_process(served, tokens) as (_, address):
            yield SimpleNamespace(address=address, tokens=tokens, key=key, sql=sql, mailed=mailed)
        await engine.dispose()
    passwords.close()


@pytest_asyncio.fixture(scope="session")
async def messages():
    return Messages()


@pytest_asyncio.fixture(scope="session")
async def chat(messages):
    async with serving(
        (messages, add_MessageServiceServicer_to_server), (Completions(), add_ChatCompletionsServiceServicer_to_server)
    ) as (address, _):
        yield address


@pytest_asyncio.fixture(scope="session")
async def proxy(auth, chat, tmp_path_factory):
    async with envoy({"auth": auth.address, "chat": chat}, tmp_path_factory.mktemp("envoy")) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def edge(proxy):
    async with httpx.AsyncClient(base_url=proxy.edge, timeout=30) as client:
        yield client


@pytest_asyncio.fixture(scope="session")
async def session(edge, auth):
    answer = await edge.post("/v1/auth/signup", json={"email": "session@example.org", "password": "a good password"})
    proof = {"token": await auth.mailed("session@example.org")}
    assert answer.status_code == 200, answer.text
    bearer = {"authorization": f"Bearer {answer.json()['accessToken']}"}
    assert (await edge.post("/v1/auth/verify-email", json=proof, headers=bearer)).status_code == 200
    return answer.json()


@pytest_asyncio.fixture(scope="session")
async def bearer(session):
    return {"authorization": f"Bearer {session['accessToken']}"}
