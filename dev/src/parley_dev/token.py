"""An operator's token, for `buf curl` and grpcurl on the internal port."""

from __future__ import annotations

import grpc
from parley.auth.v1 import service_token_service_pb2 as messages
from parley.auth.v1 import service_token_service_pb2_grpc as services

from parley_dev.config import CannotRunError, Mesh

OPERATOR = "operator"


async def operator_token(mesh: Mesh, holder: str = OPERATOR) -> str:
    """Return an access token (15 min) for `operator`, whose role is admin, or for a service, whose role is service."""
    file = mesh.secrets / "services" / holder
    if not file.exists():
        raise CannotRunError(f"{file} does not exist: the mesh of {mesh.home} never ran, or there is no such service.")
    address = mesh.address("auth")
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        request = messages.IssueServiceTokenRequest(service=holder, secret=file.read_text().strip())
        try:
            answer = await services.ServiceTokenServiceStub(channel).IssueServiceToken(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            raise CannotRunError(
                f"auth at {address} gave no token ({error.details()}). Is the mesh running?"
            ) from error
    return answer.access_token
