"""PasskeyService and PasskeySignInService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from parley.auth.v1 import (
    passkey_pb2,
    passkey_service_pb2_grpc,
    passkey_sign_in_service_pb2,
    passkey_sign_in_service_pb2_grpc,
    session_pb2,
)
from parley.auth.v1 import passkey_service_pb2 as pb
from parley_kit.errors import InvalidArgument

from parley_auth.convert import to_passkey, to_passkey_options, to_session
from parley_auth.passkeys import Passkeys
from parley_auth.rpc.caller import caller, device_name

Context = grpc.aio.ServicerContext[Any, Any]
_MOST_BYTES = 16 * 1024


class PasskeyService(passkey_service_pb2_grpc.PasskeyServiceServicer):
    """The passkeys of the signed-in account."""

    def __init__(self, passkeys: Passkeys) -> None:
        self._passkeys = passkeys

    async def CreatePasskeyOptions(
        self, request: pb.CreatePasskeyOptionsRequest, context: Context
    ) -> pb.PasskeyOptions:
        """Return what the device needs to make a passkey."""
        return to_passkey_options(await self._passkeys.options(caller()))

    async def AddPasskey(self, request: pb.AddPasskeyRequest, context: Context) -> passkey_pb2.Passkey:
        """Add a passkey."""
        return to_passkey(await self._passkeys.add(caller(), _credential(request.credential), request.name))

    async def ListPasskeys(self, request: pb.ListPasskeysRequest, context: Context) -> pb.ListPasskeysResponse:
        """List passkeys."""
        found = await self._passkeys.list(caller())
        return pb.ListPasskeysResponse(passkeys=[to_passkey(passkey) for passkey in found])

    async def UpdatePasskey(self, request: pb.UpdatePasskeyRequest, context: Context) -> passkey_pb2.Passkey:
        """Rename a passkey."""
        return to_passkey(await self._passkeys.rename(caller(), uuid.UUID(request.id), request.name))

    async def DeletePasskey(self, request: pb.DeletePasskeyRequest, context: Context) -> Empty:
        """Delete a passkey."""
        await self._passkeys.delete(caller(), uuid.UUID(request.id))
        return Empty()


class PasskeySignInService(passkey_sign_in_service_pb2_grpc.PasskeySignInServiceServicer):
    """Signing in with a passkey."""

    def __init__(self, passkeys: Passkeys) -> None:
        self._passkeys = passkeys

    async def CreatePasskeySignInOptions(
        self, request: passkey_sign_in_service_pb2.CreatePasskeySignInOptionsRequest, context: Context
    ) -> pb.PasskeyOptions:
        """Return what the device needs to sign in."""
        return to_passkey_options(await self._passkeys.sign_in_options())

    async def SignInWithPasskey(
        self, request: passkey_sign_in_service_pb2.SignInWithPasskeyRequest, context: Context
    ) -> session_pb2.Session:
        """Sign in by a passkey."""
        device = device_name(request.device_name, context)
        return to_session(await self._passkeys.sign_in(_credential(request.credential), device))


def _credential(stated: Struct) -> dict[str, Any]:
    if stated.ByteSize() > _MOST_BYTES:
        raise InvalidArgument("credential", "must have at most 16 KiB")
    return MessageToDict(stated)
