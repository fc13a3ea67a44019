"""Settings: PARLEY_REGISTRY_<NAME>, from the environment only."""

from __future__ import annotations

from pathlib import Path

from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field

_CATALOGUE = Path(__file__).resolve().parents[2] / "catalogue.yaml"


class Settings(ServiceSettings):
    """Settings of the registry."""

    model_config = settings_config("PARLEY_REGISTRY_")

    catalogue_file: Path = Field(_CATALOGUE, description="YAML file with the models; catalogue.yaml explains itself.")
    sweep_seconds: float = Field(10, ge=0.1, le=600, description="Time between two looks for lapsed leases.")
