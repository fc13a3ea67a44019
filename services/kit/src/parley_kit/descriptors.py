"""What the protos of the whole mesh say, from the descriptor set that is generated beside the stubs."""

from __future__ import annotations

import functools
from importlib import resources

from google.protobuf import descriptor_pb2, descriptor_pool
from parley.common.v1 import access_pb2


@functools.cache
def _files() -> descriptor_pb2.FileDescriptorSet:
    return descriptor_pb2.FileDescriptorSet.FromString(
        resources.files("parley").joinpath("descriptors.binpb").read_bytes()
    )


@functools.cache
def _accesses() -> dict[str, access_pb2.Access.ValueType]:
    return {
        f"/{file.package}.{service.name}/{method.name}": method.options.Extensions[access_pb2.access]
        for file in _files().file
        for service in file.service
        for method in service.method
    }


def access_of(method: str) -> access_pb2.Access.ValueType:
    """Return who may call `/package.Service/Method`; ACCESS_UNSPECIFIED, which is nobody, when no proto says so."""
    return _accesses().get(method, access_pb2.ACCESS_UNSPECIFIED)


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
