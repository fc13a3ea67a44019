"""`kill -9` in the middle of an erasure: it completes, whoever dies, and the books stay right."""

import asyncio
import os
import signal
import uuid

import pytest

from ..e2e.test_lifecycle import clean, erased, traces
from ..framework.person import LONG, PASSWORD, Person, good
from .test_kills import status


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "names", [("auth",), ("chat",), ("auth", "chat"), ("inference-image", "billing"), ("postgres",)]
)
async def test_a_kill_in_the_middle_of_an_erasure(mesh, edge, operator, sql, names):
    marker = f"sesquipedalian-{uuid.uuid4().hex}"
    me = await Person.sign_up(edge)
    for number in range(6):
        await me.conversation(title=f"{marker} {number}")
    conversation = await me.conversation(title=marker)
    await me.say(conversation, f"{marker} Hello!", maxOutputTokens=4)
    job = await me.post("/v1/image-jobs", prompt=marker, steps=1)
    await me.events("GET", f"/v1/image-jobs/{job['id']}:stream")
    path = f"/v1/conversations/{conversation}/messages:stream"
    async with me.streaming("POST", path, content=f"{LONG} {marker}", maxOutputTokens=600, temperature=0) as events:
        async for event in events:
            if event["type"] == "text-delta":
                break
        good(await me.call("DELETE", "/v1/me", password=PASSWORD))
        for name in names:
            os.kill(mesh.pid(name), signal.SIGKILL)
    await erased(sql, me.id)
    assert await traces(mesh, marker, f"{me.email}") <= {"auth.mails"}
    kept = {"billing.transfers", "billing.holds", "inference_image.deleted_image_jobs"}
    assert await traces(mesh, marker, job["id"]) <= kept
    pending = await sql(
        "billing_app", "SELECT id FROM billing.holds WHERE user_id = $1 AND state = 'PENDING'", uuid.UUID(me.id)
    )
    assert pending == []
    async with asyncio.timeout(300):  # the next test finds everybody well: a killed engine loads its model first
        await mesh.until_ready()
        while await status(edge) != 200:
            await asyncio.sleep(0.2)
    assert await clean(operator) == {}
    await operator.work_audited({"chat": 1, "inference-image": 1})
