"""ApiKeyService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.auth.v1 import api_key_pb2, api_key_service_pb2_grpc
from parley.auth.v1 import api_key_service_pb2 as pb

from parley_auth.api_keys import ApiKeys
from parley_auth.convert_api_keys import from_expire_time, from_key_page, key_page, to_api_key
from parley_auth.rpc.caller import caller

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 20


class ApiKeyService(api_key_service_pb2_grpc.ApiKeyServiceServicer):
    """The API keys of an account."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Context) -> pb.CreateApiKeyResponse:
        """Make a key."""
        key, secret = await self._keys.create(
            caller(),
            request.name,
            request.scopes,
            from_expire_time(request.expire_time) if request.HasField("expire_time") else None,
            request.credit_limit_micros if request.HasField("credit_limit_micros") else None,
            request.request_id,
        )
        return pb.CreateApiKeyResponse(api_key=to_api_key(key), secret=secret)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        """List keys, newest first."""
        size = request.page_size or _PAGE
        found = await self._keys.list(caller(), from_key_page(request.page_token), size + 1)
        return pb.ListApiKeysResponse(
            api_keys=[to_api_key(key) for key in found[:size]],
            next_page_token=key_page(found[size - 1]) if len(found) > size else "",
        )

    async def UpdateApiKey(self, request: pb.UpdateApiKeyRequest, context: Context) -> api_key_pb2.ApiKey:
        """Rename a key."""
        return to_api_key(await self._keys.rename(caller(), uuid.UUID(request.id), request.name))

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Context) -> api_key_pb2.ApiKey:
        """Revoke a key."""
        return to_api_key(await self._keys.revoke(caller(), uuid.UUID(request.id)))
