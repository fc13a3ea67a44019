"""Settings: PARLEY_INFERENCE_IMAGE_<NAME>, from the environment only."""

from __future__ import annotations

import datetime as dt
import socket

from parley_kit import hub
from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field


class Settings(ServiceSettings):
    """Settings of inference-image."""

    model_config = settings_config("PARLEY_INFERENCE_IMAGE_")

    model: str = Field(
        description="Folder of a diffusers pipeline, or a hub model at a commit: `org/name@<40 hexadecimal digits>`."
    )
    model_name: str = Field(
        default="",
        max_length=128,
        description="Id of the model in the catalogue; empty means the name of the folder, or `org/name`.",
    )
    objects_url: str = Field(description="Where pictures are stored: `file:///folder` or `s3://bucket/prefix`.")
    device: str = Field(
        default="auto", description="`auto` (CUDA when there is one, else CPU), `cpu`, `cuda`, `cuda:1`."
    )
    advertise_address: str = Field(default="", description="Address of the registry lease; empty means LISTEN.")
    replica_id: str = Field(
        default="",
        description="Name of this replica, unique over the deployment and stable over its restarts; "
        "empty means host name and port.",
    )
    max_pixels: int = Field(default=1024 * 1024, ge=64 * 64, description="Largest width x height of a picture.")
    max_jobs_per_user: int = Field(default=20, ge=1, description="Unfinished jobs that one user may have.")
    max_attempts: int = Field(default=3, ge=1, description="Attempts before a job fails.")
    lease_seconds: float = Field(default=8, ge=0.5, description="A worker that is silent for this long lost its job.")
    job_timeout_seconds: float = Field(default=600, ge=1, description="Longest that one attempt may take.")
    hold_seconds: int = Field(
        default=6 * 3600, ge=60, le=86_400, description="Longest that a job and its hold may wait and run."
    )
    registry_lease_seconds: int = Field(default=9, ge=3, le=300, description="Life of the registry lease.")

    @property
    def served_model(self) -> str:
        """Id of the model in the catalogue."""
        return self.model_name or hub.served_name(self.model)

    @property
    def address(self) -> str:
        """Address that other services would call."""
        return self.advertise_address or self.listen

    @property
    def replica(self) -> str:
        """Name of this replica."""
        return self.replica_id or f"inference-image-{socket.gethostname()}-{self.listen.rsplit(':', 1)[-1]}"

    @property
    def lease(self) -> dt.timedelta:
        """Life of a worker's lease on a job."""
        return dt.timedelta(seconds=self.lease_seconds)

    @property
    def job_timeout(self) -> dt.timedelta:
        """Longest attempt; also what a hold must outlive for its job to be started."""
        return dt.timedelta(seconds=self.job_timeout_seconds)
