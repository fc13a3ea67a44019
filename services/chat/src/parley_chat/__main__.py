"""Settings -> wiring -> serve."""

from __future__ import annotations

import asyncio
import datetime as dt

from parley.chat.v1.conversation_service_pb2_grpc import add_ConversationServiceServicer_to_server
from parley.chat.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from parley.chat.v1.message_service_pb2_grpc import add_MessageServiceServicer_to_server
from parley.chat.v1.user_data_service_pb2_grpc import add_UserDataServiceServicer_to_server
from parley.chat.v1.work_service_pb2_grpc import add_WorkServiceServicer_to_server
from parley.openai.v1.chat_completions_service_pb2_grpc import add_ChatCompletionsServiceServicer_to_server
from parley_kit.clients import open_channel
from parley_kit.db import create_engine, new_id
from parley_kit.identity import RemoteJwksVerifier, ServiceTokenSource
from parley_kit.periodic import Periodic
from parley_kit.server import Service, main

from parley_chat.answers import Answers
from parley_chat.completions import Completions
from parley_chat.conversations import Conversations
from parley_chat.following import Following
from parley_chat.generation_manager import GenerationManager
from parley_chat.generation_run import RunPolicy
from parley_chat.grpc_clients import CachedRegistry, GrpcBilling, GrpcLlm, GrpcPlans, GrpcRegistry
from parley_chat.plans import CachedPlans
from parley_chat.repository import Repository
from parley_chat.rpc.completions import ChatCompletionsServicer
from parley_chat.rpc.conversations import ConversationServicer
from parley_chat.rpc.generations import GenerationServicer
from parley_chat.rpc.messages import MessageServicer
from parley_chat.rpc.user_data import UserDataServicer
from parley_chat.rpc.works import WorkServicer
from parley_chat.sending import Sender
from parley_chat.settings import Settings
from parley_chat.settlement import Settlements
from parley_chat.sweeping import Sweep
from parley_chat.user_data import UserData

_FORGET_EVERY_SECONDS = 3600.0


def build() -> Service:
    """Wire the service."""
    settings = Settings()
    auth = open_channel(settings.auth_address, None)
    tokens = ServiceTokenSource(auth, "chat", settings.service_secret())
    registry = CachedRegistry(GrpcRegistry(open_channel(settings.registry_address, tokens)))
    to_billing = open_channel(settings.billing_address, tokens)
    billing = GrpcBilling(to_billing)
    plans = CachedPlans(GrpcPlans(to_billing), seconds=settings.plan_seconds)
    llm = GrpcLlm(lambda address: open_channel(address, tokens))
    engine = create_engine(settings.required_database_url(), pool_size=settings.database_pool_size)
    repository = Repository(engine, owner=new_id(), lease=dt.timedelta(seconds=settings.lease_seconds))
    settlements = Settlements(repository, billing)
    manager = GenerationManager(
        repository,
        settlements,
        registry,
        billing,
        llm,
        _policy(settings),
        checkpoint_seconds=settings.checkpoint_seconds,
        lease_seconds=settings.lease_seconds,
        max_generations=settings.max_generations,
    )
    following = Following(
        repository, manager, poll_seconds=settings.follow_seconds, heartbeat_seconds=settings.heartbeat_seconds
    )
    sender = Sender(
        repository,
        registry,
        billing,
        plans,
        llm,
        manager,
        hold_seconds=settings.hold_seconds,
        patience_seconds=settings.admission_patience_seconds,
        max_generations_per_user=settings.max_generations_per_user,
        slice_tokens=settings.slice_tokens,
    )
    conversations = Conversations(repository, registry, manager)
    answers = Answers(repository, manager, following)
    completions = Completions(sender, manager, heartbeat_seconds=settings.heartbeat_seconds)
    sweep = Sweep(repository, manager, settlements)
    periodic = (
        Periodic("taking over", sweep.take_over, every_seconds=settings.sweep_seconds),
        Periodic("settling", sweep.settle, every_seconds=settings.sweep_seconds),
        Periodic("forgetting", sweep.forget, every_seconds=_FORGET_EVERY_SECONDS),
    )
    background: list[asyncio.Task[None]] = []

    async def start() -> None:
        background.extend(asyncio.create_task(run()) for run in (manager.checkpoint_forever, following.run))
        for work in periodic:
            await work.start()

    async def drain() -> None:
        await manager.shutdown(settings.shutdown_grace_seconds)

    async def stop() -> None:
        for work in periodic:
            await work.stop()
        for task in background:
            task.cancel()
        await llm.close()
        await engine.dispose()

    return Service(
        name="chat",
        settings=settings,
        servicers=[
            (ConversationServicer(conversations), add_ConversationServiceServicer_to_server),
            (MessageServicer(conversations, sender, following, answers), add_MessageServiceServicer_to_server),
            (GenerationServicer(answers, following), add_GenerationServiceServicer_to_server),
            (ChatCompletionsServicer(completions), add_ChatCompletionsServiceServicer_to_server),
            (UserDataServicer(UserData(repository, manager)), add_UserDataServiceServicer_to_server),
            (WorkServicer(repository), add_WorkServiceServicer_to_server),
        ],
        verifier=RemoteJwksVerifier(auth),
        on_start=[start],
        on_drain=[drain],
        on_stop=[stop],
    )


def _policy(settings: Settings) -> RunPolicy:
    return RunPolicy(
        token_timeout=settings.token_timeout_seconds,
        attempts=settings.engine_attempts,
        patience=settings.engine_patience_seconds,
        backoff=settings.backoff_seconds,
        backoff_max=settings.backoff_max_seconds,
        longest=settings.max_generation_seconds,
        fallback_after=settings.fallback_seconds,
        slice_tokens=settings.slice_tokens,
        hold_seconds=settings.hold_seconds,
    )


if __name__ == "__main__":
    main("chat", build, Settings, package="parley_chat")
