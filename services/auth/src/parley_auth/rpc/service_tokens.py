"""ServiceTokenService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.auth.v1 import service_token_service_pb2 as pb
from parley.auth.v1 import service_token_service_pb2_grpc

from parley_auth.service_tokens import ServiceTokens


class ServiceTokenService(service_token_service_pb2_grpc.ServiceTokenServiceServicer):
    """Tokens for services."""

    def __init__(self, tokens: ServiceTokens) -> None:
        self._tokens = tokens

    async def IssueServiceToken(
        self, request: pb.IssueServiceTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.IssueServiceTokenResponse:
        """Exchange a secret for a JWT."""
        token, expires_in = self._tokens.issue(request.service, request.secret)
        return pb.IssueServiceTokenResponse(access_token=token, expires_in=expires_in)
