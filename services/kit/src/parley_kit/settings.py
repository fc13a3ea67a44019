"""Settings from the environment, one prefix per service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def settings_config(prefix: str) -> SettingsConfigDict:
    """Return the pydantic configuration of a service whose variables start with `prefix` (`PARLEY_CHAT_`)."""
    return SettingsConfigDict(env_prefix=prefix, env_ignore_empty=True, hide_input_in_errors=True, frozen=True)


class ServiceSettings(BaseSettings):
    """What every service reads. Subclasses add their own fields and their prefix."""

    listen: str = Field("127.0.0.1:0", description="host:port of the gRPC server; port 0 takes a free one.")
    metrics_listen: str | None = Field(None, description="host:port of GET /metrics (Prometheus); unset means none.")
    database_url: str | None = Field(None, description="postgresql:// URL of the runtime role (DML on the own schema).")
    migration_database_url: str | None = Field(None, description="postgresql:// URL of the role that owns the schema.")
    database_pool_size: int = Field(10, ge=1, le=200, description="Most connections to Postgres.")
    auth_address: str = Field("127.0.0.1:9101", description="host:port of auth.")
    registry_address: str = Field("127.0.0.1:9102", description="host:port of registry.")
    billing_address: str = Field("127.0.0.1:9103", description="host:port of billing.")
    service_secret_file: Path | None = Field(None, description="File with the secret that gets this service its JWT.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    max_concurrent_rpcs: int = Field(1000, ge=1, description="Calls in progress beyond which new ones are refused.")
    drain_seconds: float = Field(5.0, ge=0, description="How long running calls may go on after SIGTERM.")

    def service_secret(self) -> str:
        """Return the service's secret; refuse to start without one."""
        if self.service_secret_file is None:
            prefix = self.model_config.get("env_prefix", "")
            raise SystemExit(f"{prefix}SERVICE_SECRET_FILE is not set: this service has no identity.")
        return self.service_secret_file.read_text().strip()

    def required_database_url(self) -> str:
        """Return the runtime role's URL; refuse to start without one."""
        if self.database_url is None:
            raise SystemExit(f"{self.model_config.get('env_prefix', '')}DATABASE_URL is not set.")
        return self.database_url
