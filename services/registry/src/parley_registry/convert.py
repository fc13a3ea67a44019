"""Proto and OpenAI's JSON <-> domain. Pure."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from google.api import httpbody_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from parley.registry.v1 import catalog_service_pb2, lease_service_pb2, model_pb2

from parley_registry.model import Announcement, Endpoint, Model, Price, Task

_TASKS = {model_pb2.Model.CHAT: Task.CHAT, model_pb2.Model.IMAGE: Task.IMAGE}
_TASK_NUMBERS = {task: number for number, task in _TASKS.items()}


def from_task(number: model_pb2.Model.Task.ValueType) -> Task:
    """Read a task."""
    return _TASKS[number]


def from_renewal(request: lease_service_pb2.RenewLeaseRequest) -> Announcement:
    """Read what a replica announces."""
    return Announcement(
        model=request.model,
        task=from_task(request.task),
        endpoint=Endpoint(request.endpoint.replica_id, request.endpoint.address),
        context_window=request.context_window,
        max_output_tokens=request.max_output_tokens,
    )


def to_price(price: Price) -> model_pb2.Price:
    """Write a price."""
    return model_pb2.Price(
        version=price.version,
        input_micros_per_million_tokens=price.input_tokens,
        output_micros_per_million_tokens=price.output_tokens,
        micros_per_million_pixel_steps=price.pixel_steps,
        cached_input_micros_per_million_tokens=price.cached_input_tokens,
        micros_per_million_audio_seconds=price.audio_seconds,
    )


def to_resolved(model: Model) -> catalog_service_pb2.ResolveModelResponse:
    """Write a model with its replicas."""
    return catalog_service_pb2.ResolveModelResponse(
        model=model_pb2.Model(
            id=model.id,
            task=_TASK_NUMBERS[model.task],
            display_name=model.display_name,
            description=model.description,
            aliases=model.aliases,
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            tokens_per_minute=model.tokens_per_minute,
            fallbacks=model.fallbacks,
            price=to_price(model.price),
            available=model.available,
            created=_seconds(model),
            owned_by=model.owned_by,
        ),
        endpoints=[
            model_pb2.Endpoint(replica_id=endpoint.replica_id, address=endpoint.address) for endpoint in model.endpoints
        ],
    )


def to_lease(announced: Announcement, ends: dt.datetime) -> lease_service_pb2.Lease:
    """Write a lease."""
    moment = Timestamp()
    moment.FromDatetime(ends)
    endpoint = model_pb2.Endpoint(replica_id=announced.endpoint.replica_id, address=announced.endpoint.address)
    return lease_service_pb2.Lease(model=announced.model, endpoint=endpoint, expire_time=moment)


def to_json(document: dict[str, Any]) -> httpbody_pb2.HttpBody:
    """Write a JSON document."""
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(document).encode())


def to_openai(model: Model) -> dict[str, Any]:
    """Write OpenAI's model object with Parley's fields beside it."""
    return {
        "id": model.id,
        "object": "model",
        "created": _seconds(model),
        "owned_by": model.owned_by,
        "display_name": model.display_name,
        "description": model.description,
        "task": model.task,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "tokens_per_minute": model.tokens_per_minute,
        "price": {
            "version": model.price.version,
            "input_micros_per_million_tokens": model.price.input_tokens,
            "output_micros_per_million_tokens": model.price.output_tokens,
            "micros_per_million_pixel_steps": model.price.pixel_steps,
            "cached_input_micros_per_million_tokens": model.price.cached_input_tokens,
            "micros_per_million_audio_seconds": model.price.audio_seconds,
        },
        "available": model.available,
        "aliases": list(model.aliases),
        "default": model.is_default,
        "fallbacks": list(model.fallbacks),
    }


def _seconds(model: Model) -> int:
    return int(model.created_at.timestamp())
