"""Somebody with an account, who speaks to the edge as an app does."""

from __future__ import annotations

import asyncio
import email
import json
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar

import httpx

PASSWORD = "correct horse battery"
LONG = "Count forever."  # what the built-in model answers until its limit, or until it is stopped
COUNTED = " ".join(map(str, range(1, 1000)))  # its answer, and more


class Person:
    """One account. `email` and `session` are what signing up gave; the address is not proved."""

    outbox: ClassVar[Path]
    """Where the mesh leaves its mails."""

    def __init__(self, client: httpx.AsyncClient, email: str, session: dict[str, Any]) -> None:
        self.client = client
        self.email = email
        self.session = session

    @classmethod
    async def sign_up(cls, client: httpx.AsyncClient) -> Person:
        """Make an account that nobody has."""
        email = f"{uuid.uuid4().hex}@example.org"
        answer = await client.post("/v1/auth/signup", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return cls(client, email, answer.json())

    async def verify(self) -> Person:
        """Prove the address, which can sign in from then on."""
        token = await mailed_token(self.outbox, self.email, "Confirm")
        good(await self.client.post("/v1/auth/verify-email", json={"token": token}, headers=self.headers))
        return self

    @property
    def token(self) -> str:
        return self.session["accessToken"]

    @property
    def id(self) -> str:
        return self.session["user"]["id"]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    async def call(self, method: str, path: str, **body: Any) -> httpx.Response:
        """Call the edge; keyword arguments are the JSON body."""
        return await self.client.request(method, path, headers=self.headers, json=body if method != "GET" else None)

    async def get(self, path: str) -> dict[str, Any]:
        return good(await self.call("GET", path))

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        return good(await self.call("POST", path, **body))

    async def link(self, issuer: Any, **claims: Any) -> str:
        """Link a user of an identity provider to the account; returns the link's id."""
        nonce = good(await self.client.post("/v1/auth/oidc/nonce", json={}))["nonce"]
        token = issuer.token(nonce, **claims)
        return (await self.post("/v1/auth/identities", provider="local", idToken=token, nonce=nonce))["id"]

    async def conversation(self, **body: Any) -> str:
        """Make a conversation; returns its id."""
        return (await self.post("/v1/conversations", **body))["id"]

    @asynccontextmanager
    async def streaming(self, method: str, path: str, **body: Any) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
        """Open a stream of Server-Sent Events; yields the iterator of its events."""
        arguments = {"headers": self.headers, "json": body if method != "GET" else None}
        async with self.client.stream(method, path, **arguments) as answer:
            if answer.status_code != 200:
                await answer.aread()
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "text/event-stream"
            yield events_of(answer)

    async def events(self, method: str, path: str, **body: Any) -> list[dict[str, Any]]:
        """Return all events of a stream."""
        async with self.streaming(method, path, **body) as events:
            return [event async for event in events]

    async def say(self, conversation: str, content: str, **more: Any) -> list[dict[str, Any]]:
        """Send a message; returns the events of the answer without heartbeats."""
        path = f"/v1/conversations/{conversation}/messages:stream"
        events = await self.events("POST", path, content=content, **more)
        return [event for event in events if event["type"] != "data-heartbeat"]

    async def credits(self) -> tuple[int, int, int]:
        """Return balance, held and available, in micro-credits."""
        answer = await self.get("/v1/credits")
        names = ("balanceMicros", "heldMicros", "availableMicros")
        balance, held, available = (int(answer.get(name, 0)) for name in names)
        return balance, held, available

    async def charges(self) -> list[dict[str, Any]]:
        """Return the charges, newest first."""
        entries = (await self.get("/v1/credits/entries?pageSize=100")).get("entries", [])
        return [entry for entry in entries if entry["kind"] == "charge"]


async def events_of(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON of each `data:` line."""
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def mailed_token(outbox: Path, recipient: str, subject: str) -> str:
    """Return the token of the newest mail to somebody whose subject begins so; waits for it."""
    async with asyncio.timeout(30):
        while True:
            for mail in mails(outbox, recipient):
                if mail["subject"].startswith(subject):
                    found = re.search(r"^([\w-]{43})\s*$", mail.get_content(), re.MULTILINE)
                    assert found, mail.get_content()
                    return found[1]
            await asyncio.sleep(0.05)


def mails(outbox: Path, recipient: str) -> list[EmailMessage]:
    """Return the mails to somebody, newest first: their ids are in the order of time."""
    files = sorted(outbox.glob("*.eml"), reverse=True)
    read = [email.message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
    return [mail for mail in read if mail["to"] == recipient]


def good(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON of an answer that must be 200."""
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    return answer.json()


def text_of(events: list[dict[str, Any]]) -> str:
    """Return the text that a stream of events wrote."""
    return "".join(event["delta"] for event in events if event["type"] == "text-delta")


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Return status, code and param of a refusal, whose shape is checked."""
    body = answer.json()
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == {"type", "code", "message", "param", "details", "request_id", "timestamp"}
    assert error["request_id"]
    assert error["message"]
    return answer.status_code, error["code"], error["param"]
