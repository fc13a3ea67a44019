"""Settings -> wiring -> serve."""

from __future__ import annotations

import structlog
from parley.inference.llm.v1.llm_service_pb2_grpc import add_LlmServiceServicer_to_server
from parley.registry.v1 import lease_service_pb2, model_pb2
from parley_kit.clients import open_channel
from parley_kit.hub import UnusableModel
from parley_kit.identity import RemoteJwksVerifier, ServiceTokenSource
from parley_kit.lease import RegistryLease
from parley_kit.server import Service, main

from parley_inference_llm import vllm_engine
from parley_inference_llm.generator import Generator
from parley_inference_llm.rpc.llm import LlmService
from parley_inference_llm.settings import Settings
from parley_inference_llm.watch import Watch

log = structlog.get_logger()


def build() -> Service:
    """Wire the service. The engine comes first: it forks, and gRPC's threads must not be there yet."""
    settings = Settings()
    try:
        engine = vllm_engine.start(settings)
    except UnusableModel as error:
        raise SystemExit(f"The model cannot be used. {error}") from error
    limit = min(settings.max_output_tokens or engine.window, engine.window - 1)
    auth = open_channel(settings.auth_address, None)
    registry = open_channel(
        settings.registry_address, ServiceTokenSource(auth, "inference-llm", settings.service_secret())
    )
    lease = RegistryLease(
        registry,
        lease_service_pb2.RenewLeaseRequest(
            model=settings.served_model,
            endpoint=model_pb2.Endpoint(replica_id=settings.replica, address=settings.address),
            ttl_seconds=settings.registry_lease_seconds,
            task=model_pb2.Model.CHAT,
            context_window=engine.window,
            max_output_tokens=limit,
        ),
    )
    generator = Generator(engine, model=settings.served_model, max_output_tokens=limit)
    service = Service(
        name="inference-llm",
        settings=settings,
        servicers=[(LlmService(generator), add_LlmServiceServicer_to_server)],
        verifier=RemoteJwksVerifier(auth),
        ready=False,
    )
    watch = Watch(engine, service.fail)

    async def keep_lease() -> None:
        await lease.keep(lambda: service.set_ready(True))

    async def stop() -> None:
        await watch.stop()
        engine.stop()
        await registry.close()
        await auth.close()

    service.on_start += [watch.start, keep_lease]
    service.on_drain.append(lease.release)
    service.on_stop.append(stop)
    return service


if __name__ == "__main__":
    main("inference-llm", build, Settings)
