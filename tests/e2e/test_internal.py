"""The internal port, as operators use it; and that none of it is at the edge."""

import asyncio
import json
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from parley_dev.config import ROOT

from ..faults.test_access import PUBLIC

BUF = Path(sys.executable).parent / "buf"


async def buf_curl(url, *arguments, data=None):
    """Run buf curl; returns its exit status, output and errors."""
    command = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, url]
    process = await asyncio.create_subprocess_exec(
        *command, *(("-d", json.dumps(data)) if data is not None else ()),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def every_method():
    files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "proto/gen/parley.binpb").read_bytes()).file
    return [
        f"{file.package}.{service.name}/{method.name}"
        for file in files
        if file.package.startswith("parley.")
        for service in file.service
        for method in service.method
    ]


@pytest.fixture(scope="session")
def internal(mesh):
    return mesh.mesh.internal_url


async def test_reflection_lists_every_service(internal):
    status, out, err = await buf_curl(internal, "--list-services")
    assert status == 0, err
    assert {name.split("/")[0] for name in every_method()} <= set(out.split())


async def test_an_operator_reads_the_books(internal, operator):
    status, out, err = await buf_curl(
        f"{internal}/parley.billing.v1.AuditService/AuditLedger",
        *("-H", f"authorization: Bearer {operator.token}"),
        data={},
    )
    assert status == 0, err
    assert int(json.loads(out)["accounts"]) > 0


async def test_an_error_explains_itself(internal, operator):
    status, _, err = await buf_curl(
        f"{internal}/parley.billing.v1.HoldService/GetHold",
        *("-H", f"authorization: Bearer {operator.token}"),
        data={"holdId": "no id"},
    )
    assert status != 0
    told = json.loads(err)
    assert told["code"] == "invalid_argument"
    assert "holdId" in told["message"]


@pytest.mark.parametrize("method", every_method())
async def test_every_rpc_is_reachable_with_a_token(mesh, operator, method):
    """An empty request reaches the service: it is answered or refused by it, never unrouted."""
    async with grpc.aio.insecure_channel(mesh.mesh.internal_url.removeprefix("http://")) as channel:
        call = channel.unary_stream(f"/{method}")(
            b"", metadata=[("authorization", f"Bearer {operator.token}")], timeout=30
        )
        try:
            async for _ in call:
                break
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            trailers = dict(error.trailing_metadata())
            assert "parley-error" in trailers, (code, error.details())
        finally:
            call.cancel()
    assert code not in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}


@pytest.mark.parametrize("method", every_method())
async def test_no_rpc_is_reachable_without_a_token_unless_public(mesh, method):
    async with grpc.aio.insecure_channel(mesh.mesh.internal_url.removeprefix("http://")) as channel:
        call = channel.unary_stream(f"/{method}")(b"", timeout=30)
        try:
            async for _ in call:
                break
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
    assert (code is not grpc.StatusCode.UNAUTHENTICATED) == (method in PUBLIC)


@pytest.mark.parametrize("method", every_method())
async def test_no_rpc_is_at_the_edge_by_its_grpc_name(mesh, me, method):
    async with grpc.aio.insecure_channel(mesh.mesh.edge_url.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(f"/{method}")(b"", metadata=[("authorization", f"Bearer {me.token}")], timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_no_reflection_at_the_edge(mesh, version):
    # In one message: a client that streams may see its write fail before it sees the refusal.
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    async with grpc.aio.insecure_channel(mesh.mesh.edge_url.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(method)(asked, timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_users_token_opens_no_internal_rpc(internal, me):
    status, _, err = await buf_curl(
        f"{internal}/parley.billing.v1.AuditService/AuditLedger", "-H", f"authorization: Bearer {me.token}", data={}
    )
    assert status != 0
    assert json.loads(err)["code"] == "permission_denied"
