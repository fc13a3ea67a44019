"""The service as a process, with an auth and a registry of the tests around it."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psutil
from google.api import httpbody_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parley.auth.v1 import service_token_service_pb2
from parley.auth.v1.jwks_service_pb2_grpc import JwksServiceServicer, add_JwksServiceServicer_to_server
from parley.auth.v1.service_token_service_pb2_grpc import (
    ServiceTokenServiceServicer,
    add_ServiceTokenServiceServicer_to_server,
)
from parley.inference.llm.v1 import generation_pb2, llm_service_pb2
from parley.inference.llm.v1.llm_service_pb2_grpc import LlmServiceStub
from parley.registry.v1 import lease_service_pb2
from parley.registry.v1.lease_service_pb2_grpc import LeaseServiceServicer, add_LeaseServiceServicer_to_server
from parley_kit.errors import parley_error_from

MODELS = Path(__file__).parents[3] / "models"
MODEL = "parley-nano-chat"
_SOON = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]  # else up to two minutes
LONG = "Count forever."  # an answer that the model does not end by itself


class Auth(JwksServiceServicer, ServiceTokenServiceServicer):
    """Publishes the tests' key and gives every service a token."""

    def __init__(self, tokens):
        self._tokens = tokens

    async def GetJwks(self, request, context):
        return httpbody_pb2.HttpBody(content_type="application/json", data=self._tokens.jwks())

    async def IssueServiceToken(self, request, context):
        token = self._tokens.service(request.service)
        return service_token_service_pb2.IssueServiceTokenResponse(access_token=token, expires_in=900)


class Registry(LeaseServiceServicer):
    """Keeps the leases that were asked for."""

    def __init__(self):
        self.leases = {}
        self.released = []

    async def RenewLease(self, request, context):
        self.leases[request.endpoint.replica_id] = request
        return lease_service_pb2.Lease(model=request.model, endpoint=request.endpoint, expire_time=Timestamp())

    async def ReleaseLease(self, request, context):
        self.leases.pop(request.replica_id, None)
        self.released.append(request.replica_id)
        return lease_service_pb2.ReleaseLeaseResponse()


def auth_servicers(tokens):
    auth = Auth(tokens)
    return [(auth, add_JwksServiceServicer_to_server), (auth, add_ServiceTokenServiceServicer_to_server)]


def registry_servicers(registry):
    return [(registry, add_LeaseServiceServicer_to_server)]


class Client:
    """Calls the service as chat does; a refusal comes out as a ParleyError."""

    def __init__(self, channel, token):
        self._stub = LlmServiceStub(channel)
        self._metadata = [("authorization", f"Bearer {token}")]

    async def prepare(self, *contents, model=MODEL, asked=0):
        request = llm_service_pb2.PreparePromptRequest(model=model, messages=turns(contents), max_output_tokens=asked)
        try:
            return await self._stub.PreparePrompt(request, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise parley_error_from(error) from error

    def call(self, *contents, model=MODEL, continuation="", cache_salt="", **sampling):
        sampling = {"max_output_tokens": 20, "temperature": 0} | sampling
        request = llm_service_pb2.GenerateRequest(
            model=model,
            generation_id="01890000-0000-7000-8000-000000000000",
            messages=turns(contents),
            continuation=continuation,
            cache_salt=cache_salt,
            sampling=generation_pb2.Sampling(**sampling),
        )
        return self._stub.Generate(request, metadata=self._metadata)

    async def generate(self, *contents, **more):
        try:
            return [step async for step in self.call(*contents, **more)]
        except grpc.aio.AioRpcError as error:
            raise parley_error_from(error) from error


def turns(contents):
    """Return turns: every second one is the model's, the last one the user's; a tuple names its role."""
    messages = []
    for index, content in enumerate(contents):
        role = "user" if (len(contents) - index) % 2 else "assistant"
        role, text = content if isinstance(content, tuple) else (role, content)
        messages.append(generation_pb2.ChatMessage(role=role, content=text))
    return messages


def text(steps):
    return "".join(step.delta for step in steps)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def running(logs, secret, auth, registry, **settings):
    """Run the service; yields the process, its address and that of its metrics when it is SERVING."""
    port, metrics = free_port(), free_port()
    values = {
        "MODEL": str(MODELS / MODEL),
        "LISTEN": f"127.0.0.1:{port}",
        "METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "AUTH_ADDRESS": auth,
        "REGISTRY_ADDRESS": registry,
        "SERVICE_SECRET_FILE": str(secret),
    } | settings
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {f"PARLEY_INFERENCE_LLM_{name}": value for name, value in values.items()}
    log = logs / f"log-{port}"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "parley_inference_llm", env=env, stdout=output, stderr=output
        )
    try:
        await until_serving(process, f"127.0.0.1:{port}", log)
        yield process, f"127.0.0.1:{port}", f"http://127.0.0.1:{metrics}/metrics", log
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()


async def until_serving(process, address, log):
    async with asyncio.timeout(250), grpc.aio.insecure_channel(address, options=_SOON) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            assert process.returncode is None, log.read_text()[-3000:]
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                answer = None
            if answer is not None and answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.1)


async def gone(processes):
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 30)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
