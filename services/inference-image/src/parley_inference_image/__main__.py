"""Settings -> wiring -> serve."""

from __future__ import annotations

import datetime as dt

from parley.image.v1.image_job_service_pb2_grpc import add_ImageJobServiceServicer_to_server
from parley.image.v1.user_data_service_pb2_grpc import add_UserDataServiceServicer_to_server
from parley.image.v1.work_service_pb2_grpc import add_WorkServiceServicer_to_server
from parley.registry.v1 import lease_service_pb2, model_pb2
from parley_kit import telemetry
from parley_kit.clients import open_channel
from parley_kit.db import create_engine
from parley_kit.identity import RemoteJwksVerifier, ServiceTokenSource
from parley_kit.lease import RegistryLease
from parley_kit.periodic import Periodic
from parley_kit.server import Service, main

from parley_inference_image import metrics
from parley_inference_image.clients import GrpcBilling, GrpcRegistry
from parley_inference_image.engine import Engine
from parley_inference_image.engine_thread import EngineThread
from parley_inference_image.jobs import Jobs, Limits
from parley_inference_image.pictures import Pictures
from parley_inference_image.replica import Replica
from parley_inference_image.repository import Repository
from parley_inference_image.rpc.image_jobs import ImageJobServicer
from parley_inference_image.rpc.user_data import UserDataServicer
from parley_inference_image.rpc.works import WorkServicer
from parley_inference_image.settings import Settings
from parley_inference_image.settlements import Settlements
from parley_inference_image.upkeep import Upkeep
from parley_inference_image.user_data import UserData
from parley_inference_image.user_data_repository import UserDataRepository
from parley_inference_image.watch import Watch
from parley_inference_image.worker import Worker
from parley_inference_image.works_repository import WorkRepository

_FORGET_EVERY_SECONDS = 3600.0
_BURIED_FOR = dt.timedelta(days=1)  # longer than any access token lives


def build() -> Service:
    """Wire the service."""
    settings = Settings()
    auth = open_channel(settings.auth_address, None)
    tokens = ServiceTokenSource(auth, "inference-image", settings.service_secret())
    billing = GrpcBilling(open_channel(settings.billing_address, tokens))
    registry_channel = open_channel(settings.registry_address, tokens)
    registry = GrpcRegistry(registry_channel)
    database = create_engine(settings.required_database_url(), pool_size=settings.database_pool_size)
    repository = Repository(database)
    watch = Watch(repository)
    settlements = Settlements(repository, billing, watch)
    pictures = Pictures(settings.objects_url)
    engine_thread = EngineThread()
    worker = Worker(
        repository,
        settlements,
        watch,
        pictures,
        engine_thread,
        model=settings.served_model,
        replica=settings.replica,
        lease=settings.lease,
        job_timeout=settings.job_timeout,
        max_attempts=settings.max_attempts,
    )
    jobs = Jobs(
        repository=repository,
        billing=billing,
        registry=registry,
        settlements=settlements,
        watch=watch,
        pictures=pictures,
        limits=Limits(
            max_pixels=settings.max_pixels,
            max_jobs_per_user=settings.max_jobs_per_user,
            hold=dt.timedelta(seconds=settings.hold_seconds),
        ),
        wake_worker=worker.wake,
    )
    buried = UserDataRepository(database, repository)
    works = WorkRepository(database)

    async def forget() -> None:
        await buried.forget_buried(_BURIED_FOR)
        await works.forget_deleted()

    forgetting = Periodic("forgetting", forget, every_seconds=_FORGET_EVERY_SECONDS)
    metrics.QUEUE_DEPTH.labels(settings.served_model).set(0)  # told before the first job, too
    service = Service(
        name="inference-image",
        settings=settings,
        servicers=[
            (ImageJobServicer(jobs), add_ImageJobServiceServicer_to_server),
            (UserDataServicer(UserData(buried, repository, pictures)), add_UserDataServiceServicer_to_server),
            (WorkServicer(works), add_WorkServiceServicer_to_server),
        ],
        verifier=RemoteJwksVerifier(auth),
        ready=False,
    )
    replica = Replica(
        model=settings.served_model,
        load=lambda: _load(settings),
        engine_thread=engine_thread,
        repository=repository,
        watch=watch,
        upkeep=Upkeep(
            repository,
            settlements,
            watch,
            worker.wake,
            max_attempts=settings.max_attempts,
            hold_margin=settings.job_timeout,
        ),
        worker=worker,
        lease=RegistryLease(
            registry_channel,
            lease_service_pb2.RenewLeaseRequest(
                model=settings.served_model,
                endpoint=model_pb2.Endpoint(replica_id=settings.replica, address=settings.address),
                ttl_seconds=settings.registry_lease_seconds,
                task=model_pb2.Model.IMAGE,
            ),
        ),
        set_ready=service.set_ready,
        fail=service.fail,
    )
    service.on_start += [replica.start, forgetting.start]
    service.on_drain.append(replica.drain)

    async def leave() -> None:
        telemetry.flush()
        engine_thread.leave(int(service.failed))

    service.on_stop += [forgetting.stop, replica.stop, leave]
    return service


def _load(settings: Settings) -> Engine:
    from parley_inference_image import diffusers_engine  # noqa: PLC0415 - takes seconds: only in the loading thread

    return diffusers_engine.load(settings.model, device=settings.device)


if __name__ == "__main__":
    main("inference-image", build, Settings, package="parley_inference_image")
