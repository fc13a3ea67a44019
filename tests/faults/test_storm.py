"""Random `kill -9` of chat, billing and inference-llm while apps stream answers: nothing is charged twice, late or not at all.

PARLEY_STORM_KILLS says how many; `make faults` makes it a hundred.
"""

import asyncio
import json
import os
import random
import uuid

import httpx
import pytest
from parley_dev.config import BUILT_IN_CHAT
from tokenizers import Tokenizer

from ..framework.person import COUNTED, LONG, PASSWORD, Person, events_of, good, text_of
from .test_kills import kill, settled, until_healthy

KILLS = int(os.environ.get("PARLEY_STORM_KILLS", "3"))
VICTIMS = ("inference-llm", "chat", "billing")
APPS = 3
PENDING = "SELECT count(*) FROM billing.holds WHERE state = 'PENDING'"
GROWN = "SELECT count(*) FROM billing.holds WHERE placed_units[2] < max_output_tokens"
LATE = f"{PENDING} AND expires_at < now() - interval '10 s'"


class App:
    """A person's app: it repeats what was not answered, and comes back to a stream that broke."""

    def __init__(self, person):
        self.person = person
        self.answers = []  # (generation, conversation, events)

    async def call(self, method, path, **body):
        """Yield the events of one try; nothing when it could not be made."""
        arguments = {"headers": self.person.headers, "json": body if method != "GET" else None}
        try:
            async with self.person.client.stream(method, path, **arguments) as answer:
                if answer.status_code == 401:
                    session = {"email": self.person.email, "password": PASSWORD}
                    self.person.session = good(await self.person.client.post("/v1/auth/signin", json=session))
                elif answer.status_code not in (502, 503, 504):
                    assert answer.status_code == 200, (await answer.aread()).decode()
                    async for event in events_of(answer):
                        if event["type"] != "data-heartbeat":
                            yield event
        except (httpx.TransportError, json.JSONDecodeError):  # a line that was cut in the middle is no JSON
            return

    async def conversation(self):
        while True:
            try:
                return await self.person.conversation()
            except (httpx.TransportError, AssertionError):
                await asyncio.sleep(0.2)

    async def ask(self):
        """Ask once and read the answer to its end, however often that takes."""
        conversation, request_id = await self.conversation(), uuid.uuid4().hex
        body = {"content": LONG, "maxOutputTokens": random.randint(40, 200), "temperature": 0, "requestId": request_id}
        events = []
        while not events or events[-1]["type"] != "finish":
            if events:
                generation = events[0]["messageMetadata"]["generationId"]
                tried = self.call("GET", f"/v1/generations/{generation}:stream?after={events[-1]['seq']}")
            else:
                tried = self.call("POST", f"/v1/conversations/{conversation}/messages:stream", **body)
            async for event in tried:
                if event["type"] == "start":
                    events.clear()  # the dead replica had written no checkpoint of what was sent
                events.append(event)
            await asyncio.sleep(0.1)
        self.answers.append((events[0]["messageMetadata"]["generationId"], conversation, events))


@pytest.mark.timeout(180 + 60 * KILLS)
async def test_kills_while_apps_stream(mesh, edge, operator, sql, figure):
    over = asyncio.Event()
    apps = [App(await (await Person.sign_up(edge)).verify()) for _ in range(APPS)]

    async def use(app):
        while not over.is_set():
            await app.ask()

    async def storm():
        for number in range(KILLS):
            await asyncio.sleep(random.uniform(0.2, 2))
            await kill(mesh, VICTIMS[number] if number < len(VICTIMS) else random.choice(VICTIMS))
        over.set()

    async def watch():
        while not over.is_set():
            assert await sql("billing_app", LATE) == [(0,)]
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as tasks:
        for app in apps:
            tasks.create_task(use(app))
        tasks.create_task(watch())
        tasks.create_task(storm())

    await until_healthy(edge)
    await operator.renew()
    tokenizer, delivered = Tokenizer.from_file(str(BUILT_IN_CHAT / "tokenizer.json")), 0
    for app in apps:
        holds = [await settled(operator, app.person, generation) for generation, _, _ in app.answers]
        charges = await every_charge(app.person)
        of_generation = {charge["reference"]: charge for charge in charges}
        assert len(of_generation) == len(charges)
        for (generation, conversation, events), hold in zip(app.answers, holds, strict=True):
            stored = (await app.person.get(f"/v1/conversations/{conversation}/messages"))["messages"]
            assert stored[1]["content"] == text_of(events)
            assert COUNTED.startswith(text_of(events))
            tokens = len(tokenizer.encode(text_of(events), add_special_tokens=False).ids)
            charge = of_generation.pop(generation, None)
            if tokens == 0:  # no engine lived long enough to begin: then it is free
                assert (charge, hold.charged_micros, stored[1]["state"]) == (None, 0, "FAILED")
                continue
            assert charge is not None, f"{generation} is not charged: {hold}"
            assert int(charge["quantity"]["outputTokens"]) == tokens
            assert -int(charge["amountMicros"]) == hold.charged_micros
            delivered += 1
        assert of_generation == {}
    async with asyncio.timeout(60):
        while await sql("billing_app", PENDING) != [(0,)]:
            await asyncio.sleep(0.2)
    audit = await operator.audit()
    drift = (audit.sum_micros, audit.drifted_balances, audit.drifted_holds, audit.mispriced_holds)
    assert drift == (0, 0, 0, 0)
    work = (await operator.work_audited({"chat": delivered}))["chat"]
    ((grown,),) = await sql("billing_app", GROWN)
    assert grown > 0
    figure(
        f"{KILLS} kill -9 under streams, {delivered} answers, {grown} holds extended meanwhile: each charged once, for the tokens "
        f"delivered; 0 late holds; {work.holds} holds and {work.works} generations match both ways"
    )


async def every_charge(person):
    """Return all charges of a person, page by page."""
    charges, page = [], ""
    while True:
        answer = await person.get(f"/v1/credits/entries?pageSize=100&pageToken={page}")
        charges += [entry for entry in answer.get("entries", []) if entry["kind"] == "charge"]
        if not (page := answer.get("nextPageToken", "")):
            return charges
