import json

import httpx
import pytest
from parley.common.v1 import error_reason_pb2
from parley.common.v1.error_reason_pb2 import ErrorReason

from .shape import TYPES, error

MESSAGES = "/v1/conversations/c/messages"
REASONS = [value for value in ErrorReason.DESCRIPTOR.values if value.number]


def rule(value):
    return value.GetOptions().Extensions[error_reason_pb2.error_rule]


@pytest.mark.parametrize("reason", [value.name for value in REASONS])
async def test_every_reason_comes_out_as_its_rule_says(edge, bearer, reason):
    expected = rule(ErrorReason.DESCRIPTOR.values_by_name[reason])
    answer = await edge.post(MESSAGES, json={"content": reason}, headers=bearer)
    assert answer.status_code == expected.http_status
    told = answer.json()["error"]
    assert (told["type"], told["code"]) == (expected.type, reason.removeprefix("ERROR_REASON_"))
    assert told["message"] == 'it is "so"\n\t— ä'
    assert told["request_id"] == "r-1"  # the service's own body, untouched
    assert answer.headers["content-type"] == "application/json"
    assert not [name for name in answer.headers if name.startswith(("grpc-", "parley-"))]
    assert answer.headers.get("retry-after") == ("7" if "RATE" in reason else None)


def test_the_shape_the_tests_check_is_the_table_of_the_proto():
    assert {rule(value).http_status: rule(value).type for value in REASONS} == TYPES


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("UNAVAILABLE", 503, "UNAVAILABLE"),
        ("DEADLINE_EXCEEDED", 504, "DEADLINE_EXCEEDED"),
        ("RESOURCE_EXHAUSTED", 429, "RATE_LIMITED"),
        ("UNIMPLEMENTED", 404, "UNIMPLEMENTED"),
        ("PERMISSION_DENIED", 403, "PERMISSION_DENIED"),
        ("UNAUTHENTICATED", 401, "UNAUTHENTICATED"),
        ("NOT_FOUND", 404, "NOT_FOUND"),
        ("CANCELLED", 499, "CANCELLED"),
        ("INTERNAL", 500, "INTERNAL"),
        ("DATA_LOSS", 500, "INTERNAL"),
        ("raise", 500, "INTERNAL"),
    ],
)
async def test_failures_of_grpc_itself_get_the_shape_and_leak_nothing(edge, bearer, content, status, code):
    told = error(await edge.post(MESSAGES, json={"content": content}, headers=bearer), status, code)
    assert "gRPC" not in told["message"]
    assert "secret" not in told["message"]


async def test_an_invalid_argument_of_grpc_itself_keeps_its_text(edge, bearer):
    told = error(
        await edge.post(MESSAGES, json={"content": "INVALID_ARGUMENT"}, headers=bearer), 400, "INVALID_ARGUMENT"
    )
    assert told["message"] == 'plain "gRPC" — ä\n'


@pytest.mark.parametrize("path", ["/v1/models", "/v1/credits", "/v1/image-jobs", "/v1/image-jobs/x:stream"])
async def test_a_service_that_is_down_is_503_at_once(edge, bearer, path):
    error(await edge.get(path, headers=bearer), 503, "UNAVAILABLE")


async def test_a_read_is_tried_again_while_the_service_is_unavailable(edge, bearer, messages):
    messages.seen.clear()
    messages.unavailable = 2
    assert (await edge.get(MESSAGES, headers=bearer)).status_code == 200
    assert len(messages.seen) == 3


async def test_a_write_is_never_done_twice(edge, bearer, messages):
    messages.seen.clear()
    error(await edge.post(MESSAGES, json={"content": "UNAVAILABLE"}, headers=bearer), 503, "UNAVAILABLE")
    assert len(messages.seen) == 1


async def test_a_successful_answer_carries_no_internal_headers(edge, bearer):
    answer = await edge.post(MESSAGES, json={"content": "hello"}, headers=bearer)
    assert (answer.status_code, answer.json()) == (200, {})
    assert not [name for name in answer.headers if name.startswith(("grpc-", "parley-", "x-envoy-"))]


async def test_healthz_says_which_service_is_down(edge):
    error(await edge.get("/healthz"), 503, "UNAVAILABLE")
    for service, status in (("auth", 200), ("chat", 200), ("registry", 503), ("inference-llm", 503)):
        assert (await edge.get(f"/healthz/{service}")).status_code == status
    assert (await edge.get("/healthz/auth")).json() == {"status": "SERVING"}


async def test_the_embedded_json_is_valid_for_strict_readers(edge, bearer):
    answer: httpx.Response = await edge.post(MESSAGES, json={"content": "INVALID_ARGUMENT"}, headers=bearer)
    assert json.loads(answer.content.decode("utf-8", "strict"), strict=True)
