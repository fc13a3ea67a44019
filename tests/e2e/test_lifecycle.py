"""From guest to nobody: what a person has stays through the upgrade, is exported whole, and is gone everywhere after deletion."""

import asyncio
import json
import uuid

import asyncpg
from parley_dev.config import WITH_SCHEMA

from ..framework.authenticator import Authenticator
from ..framework.person import PASSWORD, Person, good, refusal, text_of

BIG = 40  # messages of half a MiB: more than Envoy takes in one piece


async def guest(edge):
    return Person(edge, "", good(await edge.post("/v1/auth/guest", json={"deviceName": "phone"})))


async def traces(mesh, *texts):
    """Return the tables of all schemas, and the pictures, in which one of the texts stands."""
    found = set()
    for service in WITH_SCHEMA:
        connection = await asyncpg.connect(mesh.database_url(f"{service.schema}_app"))
        try:
            tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = $1"
            for (table,) in await connection.fetch(tables, service.schema):
                whole = f'SELECT count(*) FROM "{service.schema}"."{table}" t WHERE to_jsonb(t)::text LIKE ANY($1)'
                if await connection.fetchval(whole, [f"%{text}%" for text in texts]):
                    found.add(f"{service.schema}.{table}")
        finally:
            await connection.close()
    pictures = await asyncio.to_thread(lambda: [file.stem for file in (mesh.mesh.home / "objects").rglob("*.png")])
    return found | {picture for picture in pictures if picture in texts}


async def erased(sql, user):
    """Wait until every service has said twice that nothing is left of a user."""
    async with asyncio.timeout(240):
        while await _awaited(sql, user):
            await asyncio.sleep(0.2)


async def _awaited(sql, user):
    try:
        return await sql(
            "auth_app", "SELECT 1 FROM auth.erasures WHERE user_id = $1 AND done_at IS NULL", uuid.UUID(user)
        )
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
        return True  # Postgres was killed and is starting


async def clean(operator):
    audit = await operator.audit()
    fields = [
        field.name
        for field in audit.DESCRIPTOR.fields
        if field.name not in ("accounts", "entries", "overdue_holds", "work")
    ]
    return {name: getattr(audit, name) for name in fields if getattr(audit, name) != type(getattr(audit, name))()}


async def test_from_guest_to_nobody(mesh, edge, operator, sql, issuer):
    marker = f"sesquipedalian-{uuid.uuid4().hex}"
    me = await guest(edge)
    conversation = await me.conversation(title=f"{marker} title", requestId=f"{marker} conversation")
    events = await me.say(conversation, f"{marker} What is a credit?", maxOutputTokens=6, requestId=f"{marker} message")
    job = await me.post("/v1/image-jobs", prompt=f"{marker} circle", steps=1, requestId=f"{marker} job")
    await me.events("GET", f"/v1/image-jobs/{job['id']}:stream")
    balance, charges = await me.credits(), await me.charges()
    assert len(charges) == 2

    # The guest becomes an account: the same id, conversation and credits, from another device too.
    me.email = f"{marker}@example.org"
    assert (await me.post("/v1/me:upgrade", email=me.email, password=PASSWORD))["id"] == me.id
    await me.verify()
    signed_in = good(await edge.post("/v1/auth/signin", json={"email": me.email, "password": PASSWORD}))
    desk = Person(edge, me.email, signed_in)
    assert desk.id == me.id
    stored = (await desk.get(f"/v1/conversations/{conversation}/messages"))["messages"]
    assert stored[1]["content"] == text_of(events)
    assert (await desk.credits(), await desk.charges()) == (balance, charges)

    # Other ways in, and a purchase.
    subject = uuid.uuid4().hex
    await desk.link(issuer, sub=subject, email=f"{marker}@provider.example.org")
    options = (await desk.post("/v1/auth/passkeys/options"))["options"]
    await desk.post("/v1/auth/passkeys", credential=Authenticator().create(options), name=f"{marker} passkey")
    key = await desk.post("/v1/auth/api-keys", name=f"{marker} key", scopes=["chat", "models"])
    purchase = await desk.post("/v1/credits/checkout", package="credits-5", requestId=f"{marker}-purchase")

    # All of it is in the export, and only that.
    told = await desk.get("/v1/me/export")
    assert [thing["email"] for thing in told["accounts"]] == [me.email]
    assert {thing["deviceName"] for thing in told["sessions"]} >= {"phone"}
    assert [thing["title"] for thing in told["conversations"]] == [f"{marker} title"]
    assert [thing["content"] for thing in told["messages"]] == [f"{marker} What is a credit?", text_of(events)]
    assert [thing["prompt"] for thing in told["imageJobs"]] == [f"{marker} circle"]
    assert told["imageJobs"][0]["png"].startswith("iVBORw0KGgo")
    assert sum(int(thing["amountMicros"]) for thing in told["creditEntries"]) == balance[0]
    assert [thing["subject"] for thing in told["identities"]] == [subject]
    assert [thing["name"] for thing in told["passkeys"]] == [f"{marker} passkey"]
    assert [thing["name"] for thing in told["apiKeys"]] == [f"{marker} key"]
    assert [thing["id"] for thing in told["purchases"]] == [purchase["id"]]
    assert key["secret"] not in json.dumps(told)
    assert refusal(await desk.call("GET", "/v1/me/export"))[:2] == (429, "RATE_LIMITED")

    # Deleted, while an answer is being written: nothing is left of anything but the books, which are right.
    running = await me.conversation(title=marker)
    await me.post(f"/v1/conversations/{running}/messages", content=f"{marker} Hello", maxOutputTokens=4)
    assert "chat.messages" in await traces(mesh, marker)
    good(await desk.call("DELETE", "/v1/me", password=PASSWORD))
    for person in (me, desk):
        assert refusal(await person.call("GET", "/v1/me"))[:2] == (401, "UNAUTHENTICATED")
    late = await me.call("POST", "/v1/conversations", title=f"{marker} late")
    assert late.status_code in (200, 401), late.text  # chat may not have been told yet: then it is erased with the rest
    await erased(sql, me.id)
    assert refusal(await me.call("POST", "/v1/conversations", title=f"{marker} late"))[:2] == (401, "UNAUTHENTICATED")
    late = await me.call("POST", "/v1/image-jobs", prompt=marker, steps=1)
    assert refusal(late)[:2] == (401, "UNAUTHENTICATED")
    async with asyncio.timeout(30):  # the farewell is mailed and forgotten
        while "auth.mails" in await traces(mesh, marker):
            await asyncio.sleep(0.2)
    assert await traces(mesh, marker) == set()
    kept = {
        "billing.transfers",
        "billing.holds",
        "inference_image.deleted_image_jobs",
    }  # the job's id, without its user
    assert await traces(mesh, job["id"]) <= kept
    assert await traces(mesh, marker, subject) == set()
    assert (await edge.get("/v1/models", headers={"authorization": f"Bearer {key['secret']}"})).status_code == 401
    assert await traces(mesh, me.id) <= {
        "auth.erasures", "chat.erased_users", "inference_image.erased_users",
        "billing.accounts", "billing.holds", "billing.purchases", "billing.transfers",
    }  # fmt: skip
    assert await clean(operator) == {}
    await operator.work_audited({"chat": 1, "inference-image": 1})


async def test_an_export_of_any_size_comes_through(edge, sql):
    me = await guest(edge)
    conversation = await me.conversation(title="big")
    await sql(
        "chat_app",
        """WITH made AS (
               INSERT INTO chat.messages (id, conversation_id, position, role, content)
               SELECT gen_random_uuid(), $1, n, 'user', repeat('ä', 262144) FROM generate_series(0, $2 - 1) n RETURNING 1
           ) SELECT count(*) FROM made""",
        uuid.UUID(conversation),
        BIG,
    )
    async with edge.stream("GET", "/v1/me/export", headers=me.headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert "attachment" in answer.headers["content-disposition"]
        document = await answer.aread()
    assert len(document) > BIG * 2 * 262144
    assert [len(thing["content"]) for thing in json.loads(document)["messages"]] == [262144] * BIG


async def test_deleting_needs_the_password_or_a_fresh_session(edge, sql, me):
    await sql(
        "auth_app",
        "UPDATE auth.sessions SET created_at = created_at - interval '11 minutes' WHERE user_id = $1 RETURNING id",
        uuid.UUID(me.id),
    )
    for body in ({}, {"password": "wrong"}):
        assert refusal(await me.call("DELETE", "/v1/me", **body)) == (400, "INVALID_ARGUMENT", "password")
    good(await me.call("POST", "/v1/me:delete", password=PASSWORD))
    assert refusal(await me.call("GET", "/v1/me"))[:2] == (401, "UNAUTHENTICATED")
