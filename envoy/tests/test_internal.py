import asyncio
import json
import shutil
import sys
from pathlib import Path

import grpc
import pytest
from parley.auth.v1 import service_token_service_pb2, user_service_pb2
from parley.auth.v1.service_token_service_pb2_grpc import ServiceTokenServiceStub
from parley.auth.v1.user_service_pb2_grpc import UserServiceStub
from parley.billing.v1 import credit_service_pb2
from parley.billing.v1.credit_service_pb2_grpc import CreditServiceStub
from parley_kit.errors import parley_error_from

from .conftest import OPERATOR_SECRET

BUF = shutil.which("buf", path=str(Path(sys.executable).parent))


async def buf_curl(url, *arguments):
    """Run `buf curl` by gRPC with server reflection; return exit status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_an_operator_gets_a_token_and_uses_it(proxy, bearer, session):
    issue = "/parley.auth.v1.ServiceTokenService/IssueServiceToken"
    status, output, errors = await buf_curl(
        proxy.internal + issue, "-d", json.dumps({"service": "operator", "secret": OPERATOR_SECRET})
    )
    assert status == 0, errors
    assert json.loads(output)["expiresIn"] == 900
    status, output, errors = await buf_curl(
        proxy.internal + "/parley.auth.v1.UserService/GetMe", "-H", f"authorization: {bearer['authorization']}"
    )
    assert status == 0, errors
    assert json.loads(output)["id"] == session["user"]["id"]


async def test_reflection_lists_every_service(proxy):
    status, output, errors = await buf_curl(proxy.internal, "--list-methods")
    assert status == 0, errors
    for method in (
        "parley.auth.v1.SessionService/SignUp",
        "parley.billing.v1.HoldService/PlaceHold",
        "parley.chat.v1.MessageService/StreamMessage",
        "parley.image.v1.ImageJobService/CreateImageJob",
        "parley.registry.v1.LeaseService",
        "parley.inference.llm.v1.LlmService",
    ):
        assert method in output


async def test_there_is_no_reflection_at_the_edge(proxy):
    status, output, _ = await buf_curl(proxy.edge, "--list-methods")
    assert status != 0
    assert "parley." not in output


@pytest.mark.parametrize("metadata", [[], [("authorization", "Bearer forged")]])
async def test_the_services_themselves_refuse_bad_identities(proxy, metadata):
    async with grpc.aio.insecure_channel(proxy.internal.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await UserServiceStub(channel).GetMe(user_service_pb2.GetMeRequest(), metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert parley_error_from(refused.value).code == "UNAUTHENTICATED"


async def test_errors_keep_their_details(proxy):
    async with grpc.aio.insecure_channel(proxy.internal.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ServiceTokenServiceStub(channel).IssueServiceToken(
                service_token_service_pb2.IssueServiceTokenRequest(service="NOT A NAME", secret="x" * 20)
            )
    told = parley_error_from(refused.value)
    assert (told.code, [error.field for error in told.fields]) == ("INVALID_ARGUMENT", ["service"])


async def test_a_tools_own_request_id_is_kept(proxy, bearer):
    metadata = [("authorization", bearer["authorization"]), ("x-request-id", "of-a-tool")]
    async with grpc.aio.insecure_channel(proxy.internal.removeprefix("http://")) as channel:
        call = UserServiceStub(channel).GetMe(user_service_pb2.GetMeRequest(), metadata=metadata)
        await call
        assert dict(await call.initial_metadata())["x-request-id"] == "of-a-tool"


async def test_a_service_that_is_down_is_unavailable(proxy):
    async with grpc.aio.insecure_channel(proxy.internal.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await CreditServiceStub(channel).GetCredits(credit_service_pb2.GetCreditsRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("method", ["/parley.nothing.v1.X/Y", "/grpc.health.v1.Health/Check", "/v1/auth/signup"])
async def test_nothing_else_is_routed(proxy, method):
    async with grpc.aio.insecure_channel(proxy.internal.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(method)(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
