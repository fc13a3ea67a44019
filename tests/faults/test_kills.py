"""`kill -9` of any one process: the supervisor heals it, and nothing that was acknowledged is lost."""

import asyncio
import os
import signal

import pytest

from ..framework.person import COUNTED, LONG, Person, text_of

EVERY = [
    "postgres", "envoy", "auth", "registry", "billing", "chat", "inference-llm", "inference-image",
]  # fmt: skip


async def kill(mesh, name):
    """Kill a process and wait until its successor is ready."""
    restarts = mesh.restart_count(name)
    os.kill(mesh.pid(name), signal.SIGKILL)
    async with asyncio.timeout(90):
        while mesh.restart_count(name) == restarts:
            await asyncio.sleep(0.02)
    await mesh.until_ready()


async def until_healthy(edge):
    """Wait until Envoy, which asks the services every second, has seen all of them healthy for longer than that."""
    async with asyncio.timeout(60):
        good = 0
        while good < 13:
            good = good + 1 if (await status(edge)) == 200 else 0
            await asyncio.sleep(0.1)


async def status(edge):
    try:
        return (await edge.get("/healthz")).status_code
    except OSError:
        return 0
    except Exception as error:  # httpx hides the connection's end in many classes
        if type(error).__module__.startswith("httpx"):
            return 0
        raise


async def settled(operator, person, generation):
    """Wait until the hold of a generation is resolved; returns it."""
    async with asyncio.timeout(60):
        while (hold := await operator.hold(generation)).state == 1:
            await asyncio.sleep(0.2)
    return hold


@pytest.mark.parametrize("name", EVERY)
async def test_a_killed_process_is_healed_and_nothing_acknowledged_is_lost(mesh, edge, operator, name):
    me = await Person.sign_up(edge)
    conversation = await me.conversation(title="kept")
    events = await me.say(conversation, "Hello!", maxOutputTokens=8)
    job = await me.post("/v1/image-jobs", prompt="kept", steps=60, width=128, height=128)
    before = await me.charges()
    await kill(mesh, name)
    await until_healthy(edge)
    assert (await me.get(f"/v1/conversations/{conversation}"))["title"] == "kept"
    stored = (await me.get(f"/v1/conversations/{conversation}/messages"))["messages"]
    assert stored[1]["content"] == text_of(events)
    ended = await me.events("GET", f"/v1/image-jobs/{job['id']}:stream")
    assert ended[-1]["job"]["state"] == "SUCCEEDED"
    again = await me.say(conversation, "Still there?", maxOutputTokens=4)
    assert again[-1]["type"] == "finish"
    charges = await me.charges()
    assert [charge for charge in charges if charge in before] == before
    assert len(charges) == 3
    assert (await me.credits())[1] == 0
    audit = await operator.audit()
    assert (audit.sum_micros, audit.drifted_balances, audit.drifted_holds) == (0, 0, 0)


@pytest.mark.parametrize("name", ["inference-llm", "chat", "billing", "postgres", "registry", "auth"])
async def test_a_kill_in_the_middle_of_an_answer(mesh, edge, operator, name):
    """The answer goes on after the text already sent, is stored once, and is charged once for what was delivered."""
    me = await Person.sign_up(edge)
    conversation = await me.conversation()
    path = f"/v1/conversations/{conversation}/messages:stream"
    seen = []
    try:
        async with me.streaming("POST", path, content=LONG, maxOutputTokens=600, temperature=0) as events:
            async for event in events:
                seen.append(event)
                if len(seen) == 6:
                    os.kill(mesh.pid(name), signal.SIGKILL)
    except Exception as error:  # chat's death ends the connection; httpx has many names for that
        if not type(error).__module__.startswith(("httpx", "httpcore")):
            raise
    await mesh.until_ready()
    await until_healthy(edge)
    generation = seen[0]["messageMetadata"]["generationId"]
    seen = [event for event in seen if event["type"] != "data-heartbeat"]
    if seen[-1]["type"] != "finish":
        rest = await me.events("GET", f"/v1/generations/{generation}:stream?after={seen[-1]['seq']}")
        rest = [event for event in rest if event["type"] != "data-heartbeat"]
        # `start` again means: forget what you had, it was written after the last checkpoint of the dead replica.
        seen = rest if rest[0]["type"] == "start" else seen + rest
    seqs = [event["seq"] for event in seen]
    assert seqs == sorted(set(seqs))
    assert seen[-1]["type"] == "finish"
    assert seen[-1]["finishReason"] == "length"
    assert COUNTED.startswith(text_of(seen))
    hold = await settled(operator, me, generation)
    stored = (await me.get(f"/v1/conversations/{conversation}/messages"))["messages"]
    assert stored[1]["content"] == text_of(seen)
    assert stored[1]["state"] == "COMPLETE"
    (charge,) = await me.charges()
    assert -int(charge["amountMicros"]) == hold.charged_micros
    assert int(charge["quantity"]["outputTokens"]) == stored[1]["usage"]["outputTokens"]
    assert (await me.credits())[1] == 0
