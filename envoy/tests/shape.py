"""The one JSON shape of errors."""

import datetime as dt
import uuid

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    499: "invalid_request_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}


def error(answer, status, code, *, request_id=True):
    """Check that an answer is an error of this status and code in the one shape; return its `error` object."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    body = answer.json()
    assert set(body) == {"error"}
    told = body["error"]
    assert set(told) == {"type", "code", "message", "param", "details", "request_id", "timestamp"}
    assert (told["code"], told["type"]) == (code, TYPES[status])
    assert told["message"]
    assert isinstance(told["details"], list)
    assert dt.datetime.fromisoformat(told["timestamp"]).tzinfo is not None
    if request_id:
        assert told["request_id"] == answer.headers["x-request-id"]
        assert uuid.UUID(told["request_id"])
    assert (status in (429, 503)) == ("retry-after" in answer.headers)
    internal = ("grpc-", "parley-", "x-envoy-upstream-service", "x-envoy-decorator")
    assert not [name for name in answer.headers if name.startswith(internal)]
    return told
