"""One servicer per proto service; together: the servicers of the registry with the functions that add them to a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parley.openai.v1.models_service_pb2_grpc import add_ModelsServiceServicer_to_server
from parley.registry.v1.catalog_service_pb2_grpc import add_CatalogServiceServicer_to_server
from parley.registry.v1.lease_service_pb2_grpc import add_LeaseServiceServicer_to_server

from parley_registry.catalog import Catalog
from parley_registry.rpc.catalog import CatalogService
from parley_registry.rpc.leases import LeaseService
from parley_registry.rpc.models import ModelsService


def servicers(catalog: Catalog) -> list[tuple[Any, Callable[..., None]]]:
    """Return what the server serves."""
    return [
        (CatalogService(catalog), add_CatalogServiceServicer_to_server),
        (LeaseService(catalog), add_LeaseServiceServicer_to_server),
        (ModelsService(catalog), add_ModelsServiceServicer_to_server),
    ]
