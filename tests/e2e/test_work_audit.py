"""The audit of a whole mesh compares holds with what chat and inference-image have, both ways, and finds what is wrong there."""

import asyncio
import uuid


async def test_holds_are_those_of_generations_and_jobs(me, operator, sql):
    conversation = await me.conversation()
    await me.say(conversation, "What is a credit?", maxOutputTokens=6)
    job = await me.post("/v1/image-jobs", prompt="a circle", steps=1)
    await me.events("GET", f"/v1/image-jobs/{job['id']}:stream")
    await me.call("DELETE", f"/v1/conversations/{conversation}")
    charges = {charge["reference"]: charge for charge in await me.charges()}
    assert len(charges) == 2

    async def moved_on():
        """Wait until what was charged is looked at."""
        async with asyncio.timeout(60):
            while True:
                seen = {work.service: work.up_to.ToDatetime() for work in (await operator.audit()).work}
                if all(moment > last for moment in seen.values()):
                    return
                await asyncio.sleep(0.3)

    ((last,),) = await sql("billing_app", "SELECT max(resolved_at) AT TIME ZONE 'UTC' FROM billing.holds")
    await moved_on()
    before = await operator.work_audited({"chat": 1, "inference-image": 1})
    assert set(before) == {"chat", "inference-image"}

    (generation,) = charges.keys() - {job["id"]}
    for role, table, one in (
        ("chat_app", "chat.generations", generation),
        ("inference_image_app", "inference_image.image_jobs", job["id"]),
    ):
        charged = f"UPDATE {table} SET charged_micros = charged_micros + $2 WHERE id = $1"
        await sql(role, charged, uuid.UUID(one), 1)
        wrong = [work for work in (await operator.audit()).work if one in work.drifted_ids]
        await sql(role, charged, uuid.UUID(one), -1)
        assert [work.mismatched_works for work in wrong] == [1]
    await operator.work_audited({"chat": 1, "inference-image": 1})
