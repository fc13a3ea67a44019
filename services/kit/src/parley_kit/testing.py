"""For tests: databases on a real Postgres, real gRPC servers in process, tokens, and a hub of models."""

from __future__ import annotations

import asyncio
import atexit
import functools
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from parley_kit.context import ROLE_ADMIN, ROLE_SERVICE, ROLE_USER, Principal
from parley_kit.identity import ALGORITHM, AUDIENCE, ISSUER, TokenVerifier, verify_claims
from parley_kit.migrate import migrate
from parley_kit.server import Servicers, build_server

_PASSWORD = "test"  # noqa: S105 - of roles on a server that lives as long as the test run


@dataclass(frozen=True)
class Database:
    """A migrated database of one service."""

    app_url: str
    owner_url: str
    admin_url: str


@asynccontextmanager
async def database(package: str, schema: str) -> AsyncGenerator[Database]:
    """Yield a fresh, migrated database; PARLEY_TEST_DATABASE_URL (a superuser's) uses another server than ours."""
    from parley_dev.database import prepare, urls  # noqa: PLC0415 - the kit serves without dev

    server = await asyncio.to_thread(_server)
    name = f"test_{uuid.uuid4().hex}"
    roles = [f"{s}_{kind}" for s in _schemas() for kind in ("owner", "app")]
    passwords = dict.fromkeys(roles, _PASSWORD)
    await prepare(server, passwords, database=name)
    made = urls(server, passwords, database=name)
    await asyncio.to_thread(migrate, package=package, url=made[f"{schema}_owner"], schema=schema)
    try:
        admin = server.rpartition("/")[0] + f"/{name}"
        yield Database(made[f"{schema}_app"], made[f"{schema}_owner"], admin)
    finally:
        connection = await asyncpg.connect(server)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


def _schemas() -> list[str]:
    from parley_dev.config import WITH_SCHEMA  # noqa: PLC0415 - the kit serves without dev

    return [service.schema for service in WITH_SCHEMA]


@functools.cache
def _server() -> str:
    if url := os.environ.get("PARLEY_TEST_DATABASE_URL"):
        return url
    server = _Server()
    server.start()
    atexit.register(server.stop)
    server.up.wait()
    if server.error is not None:
        raise server.error
    return server.url


class _Server(threading.Thread):
    """Postgres for the whole test run. The kernel ties a process to the thread that starts it: this one stays."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="postgres")
        self.up = threading.Event()
        self.url = ""
        self.error: BaseException | None = None
        self._end = threading.Event()

    def run(self) -> None:
        from parley_dev.postgres import scratch_server  # noqa: PLC0415 - the kit serves without dev

        try:
            with scratch_server(_free_port()) as self.url:
                self.up.set()
                self._end.wait()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the server
            self.error = error
            self.up.set()

    def stop(self) -> None:
        self._end.set()
        self.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serve_in_process(
    servicers: Servicers, verifier: TokenVerifier
) -> AsyncGenerator[tuple[grpc.aio.Channel, str]]:
    """Serve with the mesh's interceptors on a free port; yields a plain channel to it and its address."""
    server = build_server(servicers, verifier, max_concurrent_rpcs=1000)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield channel, address
    finally:
        await server.stop(None)


class TestTokens:
    """Issues access tokens as auth does, and verifies them."""

    __test__ = False  # no test class, whatever pytest thinks of its name

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", parameters={"kid": "test"}, private=True)

    def user(self, user_id: uuid.UUID | None = None, **claims: Any) -> str:
        """Return a user's token; `claims` override what auth would write, None leaves one out."""
        return self._issue(**{"sub": str(user_id or uuid.uuid4()), "role": ROLE_USER} | claims)

    def service(self, name: str) -> str:
        """Return a service's token."""
        return self._issue(sub=f"service:{name}", role=ROLE_SERVICE)

    def admin(self) -> str:
        """Return an operator's token."""
        return self._issue(sub="service:operator", role=ROLE_ADMIN)

    def expired(self) -> str:
        """Return a user's token whose quarter of an hour is over."""
        return self.user(exp=int(time.time()) - 60)

    def forged(self) -> str:
        """Return a token with a good shape that another key has signed."""
        return TestTokens().user()

    def jwks(self) -> bytes:
        """Return the public key as auth publishes it."""
        key = self._key.as_dict(private=False) | {"kid": "test", "alg": ALGORITHM, "use": "sig"}
        return json.dumps({"keys": [key]}).encode()

    def _issue(self, **claims: Any) -> str:
        now = int(time.time())
        whole = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 900, "jti": uuid.uuid4().hex}
        written = {name: value for name, value in (whole | claims).items() if value is not None}
        return jwt.encode({"alg": ALGORITHM, "kid": "test"}, written, self._key, algorithms=[ALGORITHM])

    async def verify(self, token: str) -> Principal:
        """Return who a token speaks for."""
        return verify_claims(token, KeySet([self._key]))


class Hub(ThreadingHTTPServer):
    """A Hugging Face hub with one model: the files of a folder, as `somebody/model`, at `COMMIT` and on `main`."""

    NAME = "somebody/model"
    COMMIT = "0123456789" * 4

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _HubRequest)
        self.asked: list[str] = []
        """Paths of the requests for the model."""
        self.files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}


@contextmanager
def hub(folder: Path, cache: Path) -> Generator[Hub]:
    """Be the hub of this process and of those that it starts, with an empty cache."""
    from huggingface_hub import constants  # noqa: PLC0415 - only the engines have it

    with Hub(folder) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        files = url + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        with (
            mock.patch.multiple(constants, ENDPOINT=url, HUGGINGFACE_CO_URL_TEMPLATE=files),
            mock.patch.multiple(constants, HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE=False),
            mock.patch.dict(os.environ, HF_ENDPOINT=url, HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE="0"),
        ):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield server
            server.shutdown()


class _HubRequest(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if Hub.NAME in path:  # not what the library wants to know about the hub
            self.server.asked.append(path)
        api, files = f"/api/models/{Hub.NAME}", f"/{Hub.NAME}/resolve/{Hub.COMMIT}/"
        if path == f"{api}/revision/main":
            self._send(json.dumps({"id": Hub.NAME, "sha": Hub.COMMIT}).encode())
        elif path == f"{api}/tree/{Hub.COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(name)}
                for name, file in self.server.files.items()
            ]
            self._send(json.dumps(tree).encode())
        elif file := self.server.files.get(path.removeprefix(files)):
            self._send(file.read_bytes(), {"X-Repo-Commit": Hub.COMMIT, "ETag": _etag(path.removeprefix(files))})
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _send(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _etag(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
