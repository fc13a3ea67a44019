import asyncio
import json
import uuid

import httpx
import pytest

from .shape import error

ME = "/v1/me"
MESSAGES = "/v1/conversations/c/messages"


async def raw(proxy, request: bytes) -> httpx.Response:
    """Send bytes as they are: HTTP clients would tidy the path."""
    host, port = proxy.edge.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.replace(b"\n", b"\r\n"))
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    content = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return httpx.Response(int(status.split()[1]), headers=headers, content=content)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/nothing", "/v1/menu", "/v1/modelsx", "/healthz/", "/healthz/nobody",
        "/parley.auth.v1.ServiceTokenService/IssueServiceToken", "/parley.auth.v1.UserService/GetMe",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/parley.billing.v1.HoldService/PlaceHold",
        "/grpc.health.v1.Health/Check",
    ],
)  # fmt: skip
@pytest.mark.parametrize("content_type", ["application/json", "application/grpc"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_is_not_there(edge, bearer, path, content_type, method):
    answer = await edge.request(method, path, headers={**bearer, "content-type": content_type})
    if content_type == "application/grpc" and answer.status_code == 200:
        assert answer.headers["grpc-status"] == "12"  # the same 404 in gRPC's words
    else:
        error(answer, 404, "UNIMPLEMENTED")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/auth/signup"), ("DELETE", "/v1/auth/signin"), ("PUT", ME), ("POST", ME)]
)
async def test_methods_that_are_not_there(edge, bearer, method, path):
    error(await edge.request(method, path, headers=bearer), 404, "UNIMPLEMENTED")


async def test_grpc_on_an_http_path_goes_nowhere(edge, messages, bearer):
    messages.seen.clear()
    answer = await edge.post(MESSAGES, headers={**bearer, "content-type": "application/grpc"}, content=b"\0\0\0\0\0")
    assert (answer.status_code, answer.headers.get("grpc-status")) != (200, "0")
    assert messages.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/auth/signup%2f..%2f..%2fme",
        "/v1/auth%2fsignup",
        "/v1/auth/signup%5c..%5c..%5cme",
        "/healthz%2F..%2Fv1%2Fme",
    ],
)
async def test_escaped_slashes_are_refused(proxy, path):
    answer = await raw(proxy, f"GET {path} HTTP/1.1\nhost: x\n\n".encode())
    error(answer, 400, "INVALID_ARGUMENT", request_id=False)


@pytest.mark.parametrize(
    "path",
    ["/v1/auth/signup/../../me", "//v1//me", "/v1/auth/signup/%2e%2e/%2e%2e/me", "/healthz/../v1/me", "/v1/./me"],
)
async def test_no_path_walks_around_the_token(proxy, path):
    error(await raw(proxy, f"GET {path} HTTP/1.1\nhost: x\n\n".encode()), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"email":', "end of string"),
        (b"not json", "token"),
        (b"[]", "Root element"),
        (b'{"email":{"a":1}}', "email"),
        (b'{"email":5,"password":"longenough"}', "email"),
        (b'{"email":"\xff"}', "UTF-8"),
        (b'{"email":"a@example.org","password":"' + b"\xff" * 10 + b'"}', "UTF-8"),
    ],
)
async def test_bad_json_says_what_is_wrong(edge, body, named):
    told = error(
        await edge.post("/v1/auth/signup", content=body, headers={"content-type": "application/json"}),
        400,
        "INVALID_ARGUMENT",
    )
    assert named in told["message"]


async def test_an_empty_body_is_an_empty_message(edge):
    told = error(await edge.post("/v1/auth/signup"), 400, "INVALID_ARGUMENT")
    assert told["param"] == "email"


@pytest.mark.parametrize(
    ("query", "named"),
    [("nothing=1", "nothing"), ("pageSize=x", "page_size"), ("pageSize=1&pageSize=2.5", "page_size")],
)
async def test_bad_query_parameters(edge, bearer, messages, query, named):
    messages.seen.clear()
    told = error(await edge.get(f"{MESSAGES}?{query}", headers=bearer), 400, "INVALID_ARGUMENT")
    assert named in told["message"]
    assert messages.seen == []


async def test_good_query_parameters(edge, bearer, messages):
    messages.seen.clear()
    answer = await edge.get(f"{MESSAGES}?pageSize=5&pageToken=a%2Bb%2Fc+d", headers=bearer)
    assert answer.json() == {"messages": [], "nextPageToken": "a+b/c d"}
    ((request, _),) = messages.seen
    assert (request.conversation_id, request.page_size) == ("c", 5)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_1_mib(edge, chunked):
    body = json.dumps({"email": "a" * 2**20, "password": "longenough"}).encode()

    async def chunks():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    answer = await edge.post("/v1/auth/signup", content=chunks() if chunked else body)
    error(answer, 413, "PAYLOAD_TOO_LARGE")


async def test_a_body_just_under_1_mib_reaches_the_service(edge):
    body = json.dumps({"email": "a" * (2**20 - 100), "password": "longenough"}).encode()
    assert error(await edge.post("/v1/auth/signup", content=body), 400, "INVALID_ARGUMENT")["param"] == "email"


async def test_headers_too_large_or_with_underscores(edge):
    error(await edge.get(ME, headers={"x-big": "x" * 20000}), 413, "PAYLOAD_TOO_LARGE", request_id=False)
    error(await edge.get(ME, headers={"x_request_id": "mine"}), 400, "INVALID_ARGUMENT", request_id=False)


async def test_what_clients_claim_in_headers_is_dropped(edge, bearer, messages):
    claimed = {
        "x-request-id": str(uuid.uuid4()), "grpc-timeout": "1n", "x-parley-user": "root", "parley-error": "x",
        "x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-retry-on": "5xx", "x-envoy-original-path": "/other",
    }  # fmt: skip
    messages.seen.clear()
    answer = await edge.get(MESSAGES, headers={**bearer, **claimed})
    assert answer.status_code == 200
    ((_, metadata),) = messages.seen
    assert metadata["x-request-id"] == answer.headers["x-request-id"] != claimed["x-request-id"]
    assert uuid.UUID(metadata["x-request-id"])
    assert metadata["x-envoy-original-path"] == MESSAGES
    for name in ("grpc-timeout", "x-parley-user", "parley-error", "x-envoy-upstream-rq-timeout-ms", "x-envoy-retry-on"):
        assert name not in metadata


async def test_web_pages_may_ask_before_they_call(edge):
    origin = {"origin": "https://app.example.org"}
    asked = await edge.options(ME, headers={**origin, "access-control-request-method": "GET"})
    assert asked.status_code == 200
    assert "authorization" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    answer = await edge.get(ME, headers=origin)
    assert answer.headers["access-control-allow-origin"] == origin["origin"]
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    error(answer, 401, "UNAUTHENTICATED")


async def test_http2_without_tls(proxy):
    process = await asyncio.create_subprocess_exec(
        *("curl", "-s", "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}", proxy.edge + ME),
        stdout=asyncio.subprocess.PIPE,
    )
    body, told = (await process.communicate())[0].decode().rsplit("\n", 1)
    assert told == "2 401"
    assert json.loads(body)["error"]["code"] == "UNAUTHENTICATED"


async def test_the_access_log_names_the_request_and_holds_no_secret(edge, proxy, bearer):
    answer = await edge.get(f"{MESSAGES}?pageToken=a-secret", headers=bearer)
    line = await proxy.logged(request_id=answer.headers["x-request-id"])
    assert (line["status"], line["route"], line["method"], line["path"]) == (200, "conversations-read", "GET", MESSAGES)
    assert line["rpc"] == "/parley.chat.v1.MessageService/ListMessages"
    written = proxy.log.read_text()
    assert "a-secret" not in written
    assert bearer["authorization"].removeprefix("Bearer ") not in written
