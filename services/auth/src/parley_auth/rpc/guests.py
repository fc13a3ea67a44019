"""GuestService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.auth.v1 import guest_service_pb2 as pb
from parley.auth.v1 import guest_service_pb2_grpc, session_pb2, user_pb2

from parley_auth.convert import to_session, to_user
from parley_auth.guests import Guests
from parley_auth.rpc.caller import caller, device_name

Context = grpc.aio.ServicerContext[Any, Any]


class GuestService(guest_service_pb2_grpc.GuestServiceServicer):
    """Guests and what becomes of them."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests

    async def CreateGuest(self, request: pb.CreateGuestRequest, context: Context) -> session_pb2.Session:
        """Make a guest and sign it in."""
        return to_session(await self._guests.begin(device_name(request.device_name, context)))

    async def UpgradeMe(self, request: pb.UpgradeMeRequest, context: Context) -> user_pb2.User:
        """Give an account e-mail and password."""
        return to_user(await self._guests.upgrade(caller(), request.email, request.password))
