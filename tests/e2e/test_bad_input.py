"""Whatever is wrong with a request gets a 4xx that names it; nothing is stored, nothing is charged."""

import pytest

from ..framework.person import Person, refusal

MESSAGES = "/v1/conversations/{conversation}/messages"
LONG = "x" * 32769


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param"),
    [
        ("POST", MESSAGES, {}, 400, "INVALID_ARGUMENT", "content"),
        ("POST", MESSAGES, {"content": ""}, 400, "INVALID_ARGUMENT", "content"),
        ("POST", MESSAGES, {"content": " \n\t"}, 400, "INVALID_ARGUMENT", "content"),
        ("POST", MESSAGES, {"content": LONG}, 400, "INVALID_ARGUMENT", "content"),
        ("POST", MESSAGES, {"content": "x" * 9000}, 400, "CONTEXT_WINDOW_EXCEEDED", "content"),
        ("POST", MESSAGES, {"content": "x" * 2_000_000}, 413, "PAYLOAD_TOO_LARGE", None),
        ("POST", MESSAGES, {"content": "x", "model": "nobody"}, 404, "MODEL_NOT_FOUND", None),
        ("POST", MESSAGES, {"content": "x", "model": "parley-nano-image"}, 404, "MODEL_NOT_FOUND", None),
        ("POST", MESSAGES, {"content": "x", "maxOutputTokens": 0}, 400, "INVALID_ARGUMENT", "maxOutputTokens"),
        ("POST", MESSAGES, {"content": "x", "maxOutputTokens": 10**6}, 400, "INVALID_ARGUMENT", "maxOutputTokens"),
        ("POST", MESSAGES, {"content": "x", "maxOutputTokens": "many"}, 400, "INVALID_ARGUMENT", None),
        ("POST", MESSAGES, {"content": "x", "temperature": 2.1}, 400, "INVALID_ARGUMENT", "temperature"),
        ("POST", MESSAGES, {"content": "x", "temperature": -1}, 400, "INVALID_ARGUMENT", "temperature"),
        ("POST", MESSAGES, {"content": "x", "requestId": "r" * 129}, 400, "INVALID_ARGUMENT", "requestId"),
        ("POST", MESSAGES, {"content": {"text": "x"}}, 400, "INVALID_ARGUMENT", None),
        ("POST", f"{MESSAGES}:stream", {"content": ""}, 400, "INVALID_ARGUMENT", "content"),
        ("GET", f"{MESSAGES}?pageSize=101", None, 400, "INVALID_ARGUMENT", "pageSize"),
        ("GET", f"{MESSAGES}?pageToken=nonsense", None, 400, "INVALID_ARGUMENT", "pageToken"),
        ("GET", f"{MESSAGES}?noSuchParameter=1", None, 400, "INVALID_ARGUMENT", None),
        ("POST", "/v1/conversations/not-an-id/messages", {"content": "x"}, 400, "INVALID_ARGUMENT", "conversationId"),
        ("GET", "/v1/conversations/not-an-id", None, 400, "INVALID_ARGUMENT", "id"),
        ("POST", "/v1/conversations", {"title": "t" * 201}, 400, "INVALID_ARGUMENT", "title"),
        ("POST", "/v1/conversations", {"model": "nobody"}, 404, "MODEL_NOT_FOUND", None),
        ("GET", "/v1/generations/not-an-id:stream", None, 400, "INVALID_ARGUMENT", "id"),
        ("POST", "/v1/image-jobs", {}, 400, "INVALID_ARGUMENT", "prompt"),
        ("POST", "/v1/image-jobs", {"prompt": "p" * 2001}, 400, "INVALID_ARGUMENT", "prompt"),
        ("POST", "/v1/image-jobs", {"prompt": "p", "width": 63}, 400, "INVALID_ARGUMENT", "width"),
        ("POST", "/v1/image-jobs", {"prompt": "p", "height": 4096}, 400, "INVALID_ARGUMENT", "height"),
        ("POST", "/v1/image-jobs", {"prompt": "p", "width": 100}, 400, "INVALID_ARGUMENT", "width"),
        ("POST", "/v1/image-jobs", {"prompt": "p", "steps": 0}, 400, "INVALID_ARGUMENT", "steps"),
        ("POST", "/v1/image-jobs", {"prompt": "p", "seed": -1}, 400, "INVALID_ARGUMENT", "seed"),
        ("POST", "/v1/image-jobs", {"prompt": "p", "model": "nobody"}, 404, "MODEL_NOT_FOUND", None),
        ("POST", "/v1/image-jobs", {"prompt": "p", "model": "parley-nano-chat"}, 404, "MODEL_NOT_FOUND", None),
        ("GET", "/v1/image-jobs/5", None, 400, "INVALID_ARGUMENT", "id"),
        ("GET", "/v1/credits/entries?pageSize=-1", None, 400, "INVALID_ARGUMENT", "pageSize"),
        ("GET", "/v1/no-such-thing", None, 404, "UNIMPLEMENTED", None),
    ],
)  # fmt: skip
async def test_bad_input_is_named_and_costs_nothing(me, method, path, body, status, code, param):
    conversation = await me.conversation()
    before = await me.credits()
    answer = await me.call(method, path.format(conversation=conversation), **body or {})
    assert refusal(answer)[:2] == (status, code), answer.text
    if param:
        assert answer.json()["error"]["param"] == param, answer.text
    assert await me.credits() == before
    assert (await me.get(MESSAGES.format(conversation=conversation))).get("messages", []) == []
    assert (await me.get("/v1/image-jobs")).get("jobs", []) == []


@pytest.mark.parametrize("text", ['{"content": ', "[]", "nonsense", '{"content": "a" "b"}', '{"content": "\\ud800"}'])
async def test_malformed_json(me, text):
    path = MESSAGES.format(conversation=await me.conversation())
    headers = me.headers | {"content-type": "application/json"}
    answer = await me.client.post(path, headers=headers, content=text)
    assert refusal(answer)[:2] == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."])
@pytest.mark.parametrize("path", ["/v1/me", "/v1/models", "/v1/credits", "/v1/conversations", "/v1/image-jobs"])
async def test_no_token_and_tokens_that_are_none(edge, path, token):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    assert refusal(await edge.get(path, headers=headers))[:2] == (401, "UNAUTHENTICATED")


async def test_a_token_with_a_changed_claim(me):
    head, payload, signature = me.token.split(".")
    forged = f"{head}.{payload[:-2]}{'AA' if payload[-2:] != 'AA' else 'BB'}.{signature}"
    stranger = Person(me.client, me.email, me.session | {"accessToken": forged})
    assert refusal(await stranger.call("GET", "/v1/me"))[:2] == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"email": "no address", "password": "long enough"}, "email"),
        ({"email": "", "password": "long enough"}, "email"),
        ({"password": "long enough"}, "email"),
        ({"email": "a@example.org", "password": "short"}, "password"),
        ({"email": "a@example.org", "password": "p" * 129}, "password"),
    ],
)
async def test_signing_up_wrongly(edge, body, param):
    answer = await edge.post("/v1/auth/signup", json=body)
    assert refusal(answer) == (400, "INVALID_ARGUMENT", param)
