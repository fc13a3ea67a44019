"""Where everything of one mesh is: ports, folders, services, and the settings each process gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]  # the checkout
BUILT_IN_CHAT = ROOT / "models" / "parley-nano-chat"
BUILT_IN_IMAGE = ROOT / "models" / "parley-nano-image"


class CannotRunError(Exception):
    """One readable cause why the mesh cannot run, with its remedy."""


@dataclass(frozen=True)
class ServiceInfo:
    """What is fixed about a service: its name and where it comes in the rows of ports."""

    name: str
    offset: int
    has_schema: bool = True
    is_engine: bool = False

    @property
    def package(self) -> str:
        """Name of the Python package."""
        return f"parley_{self.schema}"

    @property
    def schema(self) -> str:
        """Name of the database schema, and the stem of its two roles."""
        return self.name.replace("-", "_")

    @property
    def prefix(self) -> str:
        """Start of the names of its settings."""
        return f"PARLEY_{self.schema.upper()}_"


SERVICES = (
    ServiceInfo("auth", 1),
    ServiceInfo("registry", 2),
    ServiceInfo("billing", 3),
    ServiceInfo("chat", 4),
    ServiceInfo("inference-llm", 5, has_schema=False, is_engine=True),
    ServiceInfo("inference-image", 6, is_engine=True),
)
WITH_SCHEMA = tuple(service for service in SERVICES if service.has_schema)
SECRET_HOLDERS = (*(service.name for service in SERVICES if service.name != "auth"), "operator")
_METRICS, _ADMIN, _POSTGRES = 50, 90, 99
_ROW = 100


@dataclass(frozen=True)
class Mesh:
    """The settings of one mesh on one machine. Two meshes differ in home and ports; everything else follows."""

    home: Path = ROOT / ".parley"
    base_port: int = 9100
    edge_port: int = 8080
    internal_port: int = 9090
    bind_address: str = "127.0.0.1"
    database_url: str = ""
    model: str = ""
    image_model: str = ""
    extra_env: Mapping[str, str] = field(default_factory=dict)
    """Settings added to every process, e.g. {"PARLEY_CHAT_LOG_LEVEL": "DEBUG"}."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Mesh:
        """Read the settings of `make run`; CannotRunError names one that makes no sense."""
        return cls(
            home=Path(env.get("PARLEY_HOME") or ROOT / ".parley").expanduser().resolve(),
            base_port=_port(env, "PARLEY_BASE_PORT", 9100, last=65535 - _ROW),
            edge_port=_port(env, "PARLEY_EDGE_PORT", 8080),
            internal_port=_port(env, "PARLEY_INTERNAL_PORT", 9090),
            bind_address=env.get("PARLEY_BIND_ADDRESS") or "127.0.0.1",
            database_url=env.get("DATABASE_URL", ""),
            model=_model(env, "PARLEY_INFERENCE_LLM_MODEL"),
            image_model=_model(env, "PARLEY_INFERENCE_IMAGE_MODEL"),
        )

    def address(self, service: str) -> str:
        """host:port of a service's gRPC server."""
        return f"127.0.0.1:{self.base_port + _service(service).offset}"

    def metrics_address(self, service: str) -> str:
        """host:port of a service's Prometheus metrics."""
        return f"127.0.0.1:{self.base_port + _METRICS + _service(service).offset}"

    @property
    def admin_port(self) -> int:
        """Envoy's admin port, on loopback."""
        return self.base_port + _ADMIN

    @property
    def postgres_port(self) -> int:
        """The embedded Postgres' port, on loopback."""
        return self.base_port + _POSTGRES

    @property
    def edge_url(self) -> str:
        """Where apps come in, as this machine sees it."""
        return f"http://{self._reachable}:{self.edge_port}"

    @property
    def internal_url(self) -> str:
        """Where operators come in, as this machine sees it."""
        return f"http://{self._reachable}:{self.internal_port}"

    @property
    def _reachable(self) -> str:
        return "127.0.0.1" if self.bind_address == "0.0.0.0" else self.bind_address  # noqa: S104 - compared, not bound

    @property
    def secrets(self) -> Path:
        """Folder of secrets, readable by its owner only."""
        return self.home / "secrets"

    @property
    def outbox(self) -> Path:
        """Folder of the mails that nobody sends: one .eml each."""
        return self.home / "outbox"

    @property
    def signing_keys(self) -> Path:
        """Folder of the keys that sign access tokens."""
        return self.secrets / "signing-keys"

    @property
    def logs(self) -> Path:
        """Folder of one log per process."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Folder of what belongs to one run: lock, rendered configuration."""
        return self.home / "run"

    @property
    def public_ports(self) -> tuple[int, int]:
        """The two ports that listen on `bind_address`; all others are on loopback."""
        return self.edge_port, self.internal_port

    def ports(self) -> dict[int, tuple[str, str]]:
        """Every port that this mesh listens on: to whom it belongs, and the setting that moves it."""
        base = "PARLEY_BASE_PORT"
        wanted = [
            (self.edge_port, "envoy (edge)", "PARLEY_EDGE_PORT"),
            (self.internal_port, "envoy (internal)", "PARLEY_INTERNAL_PORT"),
            (self.admin_port, "envoy (admin)", base),
        ]
        if not self.database_url:
            wanted.append((self.postgres_port, "postgres", base))
        for service in SERVICES:
            wanted.append((self.base_port + service.offset, service.name, base))
            wanted.append((self.base_port + _METRICS + service.offset, f"{service.name} (metrics)", base))
        ports: dict[int, tuple[str, str]] = {}
        for port, owner, setting in wanted:
            if port in ports:
                other, its_setting = ports[port]
                raise CannotRunError(f"Port {port} would be both {other}'s ({its_setting}) and {owner}'s ({setting}).")
            ports[port] = owner, setting
        return ports

    def service_env(self, service: ServiceInfo, urls: Mapping[str, str]) -> dict[str, str]:
        """Return one service's settings; `urls` has the database URL of each role."""
        own = {
            "LISTEN": self.address(service.name),
            "METRICS_LISTEN": self.metrics_address(service.name),
            **{f"{name.upper()}_ADDRESS": self.address(name) for name in ("auth", "registry", "billing")},
        }
        if service.has_schema:
            own["DATABASE_URL"] = urls[f"{service.schema}_app"]
        if service.name == "auth":
            own["SIGNING_KEYS_DIR"] = str(self.signing_keys)
            own["SEALING_KEY_FILE"] = str(self.secrets / "sealing-key")
            own["SERVICE_SECRETS_DIR"] = str(self.secrets / "services")
            own["MAIL_OUTBOX_DIR"] = str(self.outbox)
        else:
            own["SERVICE_SECRET_FILE"] = str(self.secrets / "services" / service.name)
        if service.name in ("auth", "billing"):  # they ask those who keep what users make
            own["CHAT_ADDRESS"] = self.address("chat")
            own["INFERENCE_IMAGE_ADDRESS"] = self.address("inference-image")
        if service.name == "billing":
            own["GUEST_GRANT_MICROS"] = "5000000"  # whoever tries it out on one machine proves no address
        if service.name == "inference-llm":
            own["MODEL"] = self.model or str(BUILT_IN_CHAT)
        if service.name == "inference-image":
            own["MODEL"] = self.image_model or str(BUILT_IN_IMAGE)
            own["OBJECTS_URL"] = f"file://{self.home / 'objects'}"
        return {service.prefix + name: value for name, value in own.items()}


def _service(name: str) -> ServiceInfo:
    return next(service for service in SERVICES if service.name == name)


def _port(env: Mapping[str, str], name: str, default: int, last: int = 65535) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= last:
        raise CannotRunError(f"{name}={text} is not a port between 1 and {last}.")
    return int(text)


def _model(env: Mapping[str, str], name: str) -> str:
    """Return a folder as an absolute path (services run elsewhere), a hub id as it is."""
    text = env.get(name, "")
    folder = Path(text).expanduser()
    return str(folder.resolve()) if text and folder.is_dir() else text
