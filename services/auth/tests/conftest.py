"""Fixtures: auth over real gRPC and real Postgres."""

import datetime as dt

import pytest
import pytest_asyncio
import sqlalchemy as sa
from joserfc.jwk import ECKey
from parley_auth.access_tokens import AccessTokens
from parley_auth.models import SCHEMA
from parley_auth.passwords import Passwords
from parley_auth.signing_keys import SigningKeys
from parley_kit.db import create_engine
from parley_kit.testing import database, serve_in_process

from tests.framework.issuer import Issuer

from .world import SECRETS, Client, Clock, provider, replica


@pytest_asyncio.fixture(scope="session")
async def postgres():
    async with database("parley_auth", SCHEMA) as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="session")
async def engine(postgres):
    made = create_engine(postgres.app_url)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def other_engine(postgres):
    """A pool of its own, as every replica has."""
    made = create_engine(postgres.app_url)
    yield made
    await made.dispose()


@pytest.fixture
def rows(engine):
    async def run(statement, **values):
        async with engine.begin() as connection:
            return [tuple(row) for row in await connection.execute(sa.text(statement), values)]

    return run


@pytest.fixture
def statements(engine):
    """What Postgres was asked to do: the begin of each statement, and each commit."""
    seen = []

    def note(_connection, _cursor, statement, *_):
        seen.append(" ".join(statement.split())[:60])

    def committed(_connection):
        seen.append("COMMIT")

    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    sa.event.listen(engine.sync_engine, "commit", committed)
    yield seen
    sa.event.remove(engine.sync_engine, "before_cursor_execute", note)
    sa.event.remove(engine.sync_engine, "commit", committed)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def key():
    return ECKey.generate_key("P-256", private=True)


@pytest.fixture
def tokens(key):
    return AccessTokens(SigningKeys.only(key), dt.timedelta(minutes=15))


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir()
    for service, secret in SECRETS.items():
        (folder / service).write_text(secret + "\n")
    return folder


@pytest.fixture
def hashed():
    """What argon2 was asked to do."""
    return []


@pytest.fixture
def passwords(hashed):
    made = Passwords(threads=2, queue=64)
    made._hasher = Recorded(made._hasher, hashed)
    yield made
    made.close()


class Recorded:
    """The real hasher, which also notes each use."""

    def __init__(self, inner, uses):
        self._inner, self._uses = inner, uses

    def hash(self, password):
        self._uses.append("hash")
        return self._inner.hash(password)

    def verify_and_update(self, password, encoded):
        self._uses.append("verify")
        return self._inner.verify_and_update(password, encoded)


@pytest.fixture(scope="session")
def running_issuer():
    with Issuer() as issuer:
        yield issuer
        issuer.shutdown()


@pytest.fixture
def issuer(running_issuer):
    """An identity provider that behaves, with one key."""
    running_issuer.heal()
    running_issuer.rotate()
    running_issuer.asked.clear()
    return running_issuer


@pytest_asyncio.fixture
async def channel(engine, clock, tokens, secrets, passwords, running_issuer):
    served = replica(engine, clock, tokens, secrets, passwords, providers=[provider(running_issuer)])
    async with serve_in_process(served, tokens) as (channel, _):
        yield channel


@pytest.fixture
def mailbox(rows):
    """Return the token of the mail that waits for an address, the latest one."""

    async def token(email):
        statement = "SELECT token FROM auth.mails WHERE recipient = :email ORDER BY id DESC LIMIT 1"
        ((found,),) = await rows(statement, email=email.lower())
        return found

    return token


@pytest.fixture
def client(channel, mailbox):
    return Client(channel, mailbox)
