"""Settings: PARLEY_CHAT_<NAME>, from the environment only."""

from __future__ import annotations

from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field


class Settings(ServiceSettings):
    """Settings of chat."""

    model_config = settings_config("PARLEY_CHAT_")

    lease_seconds: float = Field(
        5, ge=1, le=60, description="A replica that is silent this long loses its generations."
    )
    checkpoint_seconds: float = Field(
        0.3, ge=0.05, le=5, description="Time between two checkpoints of running answers."
    )
    follow_seconds: float = Field(
        0.2, ge=0.05, le=5, description="Time between two looks at another replica's answers."
    )
    sweep_seconds: float = Field(
        1, ge=0.1, le=60, description="Time between two looks for lapsed leases and due money."
    )
    heartbeat_seconds: float = Field(15, ge=0.1, description="Silence after which a stream sends a heartbeat.")
    token_timeout_seconds: float = Field(
        90, ge=1, description="Silence of an engine after which another attempt is made."
    )
    engine_attempts: int = Field(3, ge=1, le=10, description="Attempts that may fail after the engine took them up.")
    engine_patience_seconds: float = Field(60, ge=0, description="How long an answer waits for an engine to come back.")
    backoff_seconds: float = Field(1, ge=0, description="Wait after the first failed attempt; doubles each time.")
    backoff_max_seconds: float = Field(5, ge=0, description="Longest wait between two attempts.")
    admission_patience_seconds: float = Field(
        5, ge=0, description="How long a request waits for an engine to count it."
    )
    max_generation_seconds: float = Field(
        1800, ge=1, description="Longest generation: it ends as cancelled, so that no engine runs for nobody."
    )
    hold_seconds: int = Field(3600, ge=60, le=86_400, description="Life of a hold; outlives the longest generation.")
    slice_tokens: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Generated tokens that a hold is placed for, and extended by ahead of need.",
    )
    fallback_seconds: float = Field(
        3, ge=0.1, le=90, description="Silence before the first token after which a model's fallback answers."
    )
    max_generations: int = Field(1000, ge=1, description="Running generations of one replica; more are refused (429).")
    max_generations_per_user: int = Field(
        4, ge=1, le=1000, description="Unfinished answers that one user may have; more are refused (429)."
    )
    plan_seconds: float = Field(
        60, ge=1, le=3600, description="How long a user's plan is remembered: a new one takes that long to count."
    )
    shutdown_grace_seconds: float = Field(
        3, ge=0, description="How long answers may run on after SIGTERM before another replica gets them."
    )
