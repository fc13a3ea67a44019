"""Conversations: made, read, changed, listed, deleted; nobody else's."""

import uuid

import pytest

from ..framework.person import refusal


async def test_life_of_a_conversation(me):
    made = await me.post("/v1/conversations", title="First")
    path = f"/v1/conversations/{made['id']}"
    assert await me.get(path) == made
    changed = (await me.call("PATCH", path, title="Second")).json()
    assert (changed["id"], changed["title"]) == (made["id"], "Second")
    assert (await me.get(path))["title"] == "Second"
    assert (await me.call("DELETE", path)).status_code == 200
    assert refusal(await me.call("GET", path))[:2] == (404, "NOT_FOUND")


async def test_the_list_is_paginated_last_used_first(me):
    made = [await me.conversation(title=str(number)) for number in range(5)]
    await me.call("PATCH", f"/v1/conversations/{made[0]}", title="used last")
    seen, token = [], ""
    while True:
        page = await me.get(f"/v1/conversations?pageSize=2&pageToken={token}")
        assert len(page["conversations"]) <= 2
        seen += [conversation["id"] for conversation in page["conversations"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert seen == [made[0], *reversed(made[1:])]


async def test_the_same_request_id_makes_one(me):
    assert await me.conversation(requestId="r") == await me.conversation(requestId="r")
    assert len((await me.get("/v1/conversations"))["conversations"]) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/messages"),
        ("POST", "/messages"),
        ("POST", "/messages:stream"),
    ],
)
@pytest.mark.parametrize("whose", ["somebody else's", "nobody's"])
async def test_what_is_not_mine_does_not_exist(me, other, method, path, whose):
    conversation = await other.conversation() if whose == "somebody else's" else str(uuid.uuid4())
    body = {"content": "hi"} if method == "POST" else {"title": "mine now"} if method == "PATCH" else {}
    answer = await me.call(method, f"/v1/conversations/{conversation}{path}", **body)
    assert refusal(answer)[:2] == (404, "NOT_FOUND")
    if whose == "somebody else's":
        assert (await other.get(f"/v1/conversations/{conversation}")).get("title", "") == ""
    assert (await me.credits())[1] == 0
