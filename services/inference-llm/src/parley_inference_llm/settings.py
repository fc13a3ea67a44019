"""Settings: PARLEY_INFERENCE_LLM_<NAME>, from the environment only."""

from __future__ import annotations

import socket

from parley_kit import hub
from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field


class Settings(ServiceSettings):
    """Settings of inference-llm."""

    model_config = settings_config("PARLEY_INFERENCE_LLM_")

    model: str = Field(
        description="Folder of a Hugging Face model, or a hub model at a commit: `org/name@<40 hexadecimal digits>`."
    )
    model_name: str = Field(
        "",
        max_length=128,
        description="Id of the model in the catalogue; empty means the name of the folder, or `org/name`.",
    )
    max_model_len: int = Field(
        0, ge=0, description="Context window in tokens; 0 means the model's own, which may not fit the memory."
    )
    max_output_tokens: int = Field(0, ge=0, description="Largest answer in tokens; 0 means the window's.")
    max_num_seqs: int = Field(128, ge=1, le=1024, description="Answers generated at once; more wait in the engine.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Part of the GPU's memory that vLLM takes.")
    cpu_kv_cache_gib: int = Field(1, ge=1, description="Memory for the attention cache on CPUs, in GiB.")
    advertise_address: str = Field("", description="Address of the registry lease; empty means LISTEN.")
    replica_id: str = Field(
        "",
        description="Name of this replica, unique over the deployment and stable over its restarts; "
        "empty means host name and port.",
    )
    registry_lease_seconds: int = Field(9, ge=3, le=300, description="Life of the registry lease.")

    @property
    def served_model(self) -> str:
        """Id of the model in the catalogue."""
        return self.model_name or hub.served_name(self.model)

    @property
    def address(self) -> str:
        """Address that other services call."""
        return self.advertise_address or self.listen

    @property
    def replica(self) -> str:
        """Name of this replica."""
        return self.replica_id or f"inference-llm-{socket.gethostname()}-{self.listen.rsplit(':', 1)[-1]}"
