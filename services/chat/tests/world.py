"""Replicas of chat without their gRPC shell, wired as __main__ does it, over a real database."""

import asyncio
import dataclasses
import datetime as dt
import uuid
from contextlib import aclosing, asynccontextmanager

import sqlalchemy as sa
from parley_chat.answers import Answers
from parley_chat.completions import Completions
from parley_chat.conversations import Conversations
from parley_chat.following import Following
from parley_chat.generation import Sampling
from parley_chat.generation_manager import GenerationManager
from parley_chat.generation_run import RunPolicy
from parley_chat.repository import Repository
from parley_chat.sending import Ask, Sender
from parley_chat.settlement import Settlements
from parley_chat.sweeping import Sweep
from parley_kit.db import new_id

from .fakes import FakeBilling, FakeLlm, FakePlans, FakeRegistry

POLICY = RunPolicy(token_timeout=20, attempts=3, patience=20, backoff=0.001, backoff_max=0.002, longest=60)


class Replica:
    """One process of chat. `other()` is a second one beside it; `die()` is what kill -9 does."""

    def __init__(self, engine, billing=None, registry=None, llm=None, policy=POLICY, plans=None):
        self.engine = engine
        self.billing = billing or FakeBilling()
        self.registry = registry or FakeRegistry()
        self.llm = llm or FakeLlm()
        self.plans = plans or FakePlans()
        self.policy = policy
        self.repository = Repository(engine, owner=new_id(), lease=dt.timedelta(seconds=30))
        self.settlements = Settlements(self.repository, self.billing)
        self.manager = GenerationManager(
            self.repository,
            self.settlements,
            self.registry,
            self.billing,
            self.llm,
            policy,
            checkpoint_seconds=0.01,
            lease_seconds=30,
            max_generations=100,
        )
        self.following = Following(self.repository, self.manager, poll_seconds=0.01, heartbeat_seconds=15)
        self.sender = Sender(
            self.repository,
            self.registry,
            self.billing,
            self.plans,
            self.llm,
            self.manager,
            hold_seconds=600,
            patience_seconds=0.2,
            max_generations_per_user=4,
            slice_tokens=policy.slice_tokens,
        )
        self.conversations = Conversations(self.repository, self.registry, self.manager)
        self.answers = Answers(self.repository, self.manager, self.following)
        self.completions = Completions(self.sender, self.manager, heartbeat_seconds=15)
        self.sweep = Sweep(self.repository, self.manager, self.settlements)
        self.background = []

    def other(self):
        return Replica(self.engine, self.billing, self.registry, self.llm, self.policy, self.plans)

    @asynccontextmanager
    async def living(self):
        """Run what runs beside the calls."""
        self.background = [asyncio.create_task(run()) for run in (self.manager.checkpoint_forever, self.following.run)]
        try:
            yield self
        finally:
            await self.die()

    async def die(self):
        """Stop every task at once: nothing more is written by this replica."""
        tasks = list(self.background)
        for entry in self.manager._entries.values():
            tasks += [entry.writing, entry.life]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def conversation(self, user, **fields):
        values = {"title": "", "model": "", "request_id": ""} | fields
        return (await self.conversations.create(user, **values)).id

    async def send(self, user, conversation, content="hello there", request_id="", **sampling):
        return await self.sender.send(
            user,
            Ask(conversation_id=conversation, content=content, sampling=Sampling(**sampling), request_id=request_id),
        )

    async def say(self, user, conversation, content="hello there", **more):
        """Send and wait; returns the events with their log."""
        return await self.events(await self.send(user, conversation, content, **more))

    async def events(self, generation, after=0):
        async with aclosing(self.following.events(generation, after)) as stream:
            return [(event, log) async for event, log in stream]

    async def messages(self, user, conversation):
        return await self.conversations.messages(user, conversation, -1, 100)

    async def sql(self, statement, **values):
        async with self.engine.begin() as connection:
            result = await connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    async def let_time_pass(self):
        """Leases and claims lapse, and everything that waits is due."""
        await self.sql("UPDATE chat.generations SET lease_expires_at = now() - interval '1 s' WHERE ended_at IS NULL")
        await self.sql("UPDATE chat.settlements SET next_attempt_at = now() - interval '1 s'")

    async def take_over(self):
        """Take over what another replica has left; its last checkpoint may still be on its way, and renew the lease."""
        async with asyncio.timeout(20):
            while not await self.manager.take_over():
                await self.let_time_pass()

    def lose_patience(self):
        """Give engines that do not answer up soon."""
        self.manager._policy = dataclasses.replace(self.policy, patience=0.05)

    async def until(self, check):
        async with asyncio.timeout(20):
            while not check():
                await asyncio.sleep(0.002)


def text(events):
    return "".join(event.text for event, _ in events if event.kind == "text-delta")


def kinds(events):
    return [str(event.kind) for event, _ in events]


def somebody():
    return uuid.uuid4()
