"""What auth asks of the services that store something of a user."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import grpc
from parley.billing.v1 import user_data_service_pb2 as billing_pb
from parley.billing.v1 import welcome_service_pb2
from parley.billing.v1.user_data_service_pb2_grpc import UserDataServiceStub as BillingStub
from parley.billing.v1.welcome_service_pb2_grpc import WelcomeServiceStub
from parley.chat.v1 import user_data_service_pb2 as chat_pb
from parley.chat.v1.user_data_service_pb2_grpc import UserDataServiceStub as ChatStub
from parley.image.v1 import user_data_service_pb2 as image_pb
from parley.image.v1.user_data_service_pb2_grpc import UserDataServiceStub as ImageStub
from parley_kit.clients import stream

_ERASE_SECONDS = 60.0


class UserDataClient(Protocol):
    """A service's UserDataService."""

    async def erase(self, user_id: uuid.UUID) -> bool:
        """Erase a user; False when something is left whose end must be waited for."""
        ...

    def export(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Return everything that is stored of a user: the kind, and the thing as JSON."""
        ...


class WelcomeClient(Protocol):
    """Billing's WelcomeService."""

    async def welcome(self, user_id: uuid.UUID, proof: uuid.UUID) -> bool:
        """Give a user the rest of the welcome grant; False when the proof was used by another account, or there is none."""
        ...


class GrpcWelcome:
    """By gRPC."""

    def __init__(self, billing: grpc.aio.Channel) -> None:
        self._stub = WelcomeServiceStub(billing)

    async def welcome(self, user_id: uuid.UUID, proof: uuid.UUID) -> bool:
        """Give a user the rest of the welcome grant; False when the proof was used by another account, or there is none."""
        request = welcome_service_pb2.WelcomeUserRequest(user_id=str(user_id), proof=str(proof))
        return bool((await self._stub.WelcomeUser(request)).given)


class GrpcUserData:
    """By gRPC. The services' messages have one shape and names of their own."""

    def __init__(self, stub: Any, messages: Any) -> None:
        self._stub = stub
        self._messages = messages

    async def erase(self, user_id: uuid.UUID) -> bool:
        """Erase a user; False when something is left whose end must be waited for."""
        request = self._messages.EraseUserRequest(user_id=str(user_id))
        return bool((await self._stub.EraseUser(request, timeout=_ERASE_SECONDS)).erased)

    async def export(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Yield everything that is stored of a user: the kind, and the thing as JSON."""
        request = self._messages.ExportUserRequest(user_id=str(user_id))
        async with aclosing(stream(self._stub.ExportUser(request))) as things:
            async for thing in things:
                yield thing.section, thing.json


def user_data_clients(
    chat: grpc.aio.Channel, image: grpc.aio.Channel, billing: grpc.aio.Channel
) -> dict[str, UserDataClient]:
    """Return a client for every service that stores something of users, by its name."""
    return {
        "chat": GrpcUserData(ChatStub(chat), chat_pb),
        "inference-image": GrpcUserData(ImageStub(image), image_pb),
        "billing": GrpcUserData(BillingStub(billing), billing_pb),
    }
