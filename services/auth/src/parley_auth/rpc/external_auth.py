"""Envoy's Authorization service: API keys at the edge."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import status_pb2
from parley.edge.v1 import external_auth_pb2 as pb
from parley.edge.v1 import external_auth_pb2_grpc
from parley_kit.errors import ParleyError

from parley_auth.errors import InvalidApiKey, TooManyWrongKeys
from parley_auth.key_exchange import KeyExchange

CLIENT_ADDRESS = "parley-client-address"
"""What Envoy tells of where a request comes from. Its own attribute would be the proxy in front of it."""
_SCHEME = "Bearer "


class Authorization(external_auth_pb2_grpc.AuthorizationServicer):
    """Exchanges keys."""

    def __init__(self, keys: KeyExchange) -> None:
        self._keys = keys

    async def Check(self, request: pb.CheckRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.CheckResponse:
        """Replace a key by a token. Any other failure than a refusal ends the call, and Envoy answers 503."""
        stated = request.attributes.request.http.headers.get("authorization", "")
        address = next((v for k, v in context.invocation_metadata() or () if k == CLIENT_ADDRESS), "")
        try:
            token = await self._keys.exchange(stated.removeprefix(_SCHEME), str(address))
        except (InvalidApiKey, TooManyWrongKeys) as refusal:
            return _denied(refusal)
        return pb.CheckResponse(
            status=status_pb2.Status(),
            ok_response=pb.OkHttpResponse(headers=[_header("authorization", _SCHEME + token)]),
        )


def _denied(refusal: ParleyError) -> pb.CheckResponse:
    headers = [] if refusal.retry_after is None else [_header("retry-after", str(refusal.retry_after))]
    return pb.CheckResponse(
        status=status_pb2.Status(code=refusal.rule.grpc_code, message=refusal.message),
        denied_response=pb.DeniedHttpResponse(
            status=pb.DeniedHttpResponse.HttpStatus(code=refusal.rule.http_status),
            headers=headers,
            body=refusal.message,
        ),
    )


def _header(key: str, value: str) -> pb.HeaderValueOption:
    return pb.HeaderValueOption(header=pb.HeaderValueOption.HeaderValue(key=key, value=value))
