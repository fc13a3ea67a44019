"""What the protos of the whole mesh say, from the descriptor set that is generated beside the stubs."""

from __future__ import annotations

import functools
from importlib import resources

from google.protobuf import descriptor_pb2, descriptor_pool
from parley.common.v1 import access_pb2, scope_pb2


@functools.cache
def _files() -> descriptor_pb2.FileDescriptorSet:
    return descriptor_pb2.FileDescriptorSet.FromString(
        resources.files("parley").joinpath("descriptors.binpb").read_bytes()
    )


@functools.cache
def _options() -> dict[str, descriptor_pb2.MethodOptions]:
    return {
        f"/{file.package}.{service.name}/{method.name}": method.options
        for file in _files().file
        for service in file.service
        for method in service.method
    }


_NOTHING_STATED = descriptor_pb2.MethodOptions()


def access_of(method: str) -> access_pb2.Access.ValueType:
    """Return who may call `/package.Service/Method`; ACCESS_UNSPECIFIED, which is nobody, when no proto says so."""
    return _options().get(method, _NOTHING_STATED).Extensions[access_pb2.access]


def scope_of(method: str) -> str | None:
    """Return the scope that an API key needs to call `/package.Service/Method`; None: no API key may call it."""
    scope = _options().get(method, _NOTHING_STATED).Extensions[scope_pb2.scope]
    return None if scope == scope_pb2.SCOPE_UNSPECIFIED else scope_name(scope)


def scope_name(scope: scope_pb2.Scope.ValueType) -> str:
    """Return a scope as tokens and JSON write it: `account-read`."""
    return scope_pb2.Scope.Name(scope).removeprefix("SCOPE_").lower().replace("_", "-")


def service_names() -> list[str]:
    """Return the full name of every service of the mesh."""
    return [
        f"{file.package}.{service.name}"
        for file in _files().file
        if file.package.startswith("parley.")
        for service in file.service
    ]


def pool() -> descriptor_pool.DescriptorPool:
    """Return every descriptor of the mesh: whichever process is asked by reflection can explain all of them."""
    made = descriptor_pool.DescriptorPool()
    for file in _files().file:
        made.AddSerializedFile(file.SerializeToString())
    return made
