"""What the platform team looks at: database roles, traces, metrics, logs."""

import itertools
import json
import uuid

import asyncpg
import httpx
import pytest
from parley_dev.config import SERVICES, WITH_SCHEMA

SECRET_WORD = "xylophonist"
SCHEMAS = [service.schema for service in WITH_SCHEMA]


@pytest.mark.parametrize(("role", "schema"), list(itertools.permutations(SCHEMAS, 2)))
@pytest.mark.parametrize("kind", ["app", "owner"])
async def test_each_role_is_refused_every_other_schema(sql, role, schema, kind):
    tables = await sql(f"{schema}_owner", "SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    assert tables
    for (table,) in tables:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql(f"{role}_{kind}", f"SELECT 1 FROM {schema}.{table} LIMIT 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sql(f"{role}_{kind}", f"CREATE TABLE {schema}.intruder (id int)")


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_running_service_may_not_change_its_own_schema(sql, schema):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sql(f"{schema}_app", f"CREATE TABLE {schema}.more (id int)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sql(f"{schema}_app", f"DROP TABLE {schema}.alembic_version")


async def test_one_trace_from_envoy_to_the_sql_statement(me, traces):
    trace = uuid.uuid4().hex
    path = f"/v1/conversations/{await me.conversation()}/messages"
    headers = me.headers | {"traceparent": f"00-{trace}-{uuid.uuid4().hex[:16]}-01"}
    body = {"content": SECRET_WORD, "maxOutputTokens": 2}
    answer = await me.client.post(path, headers=headers, json=body)
    assert answer.status_code == 200, answer.text

    def whole(spans):  # each service exports when it likes: parents may come seconds after their children
        services = {service for service, _ in spans}
        sql = [(service, span) for service, span in spans if attribute(span, "db.system", "db.system.name")]
        by_id = {span.span_id: (service, span) for service, span in spans}
        begun_by = {root(by_id, span) for service, span in sql if service == "billing"}
        return (
            services >= {"envoy", "chat", "billing", "inference-llm"}
            and {service for service, _ in sql} >= {"chat", "billing"}
            and begun_by == {"envoy"}
        )

    assert SECRET_WORD not in str(await traces.until(trace, whole))


def root(by_id, span):
    """Return the service that recorded the farthest ancestor."""
    service, span = by_id[span.span_id]
    while span.parent_span_id in by_id:
        service, span = by_id[span.parent_span_id]
    return service


def attribute(span, *names):
    return any(pair.key in names for pair in span.attributes)


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
async def test_metrics(mesh, me, service):
    await me.say(await me.conversation(), "Hello!", maxOutputTokens=3)
    async with httpx.AsyncClient() as client:
        shown = (await client.get(f"http://{mesh.mesh.metrics_address(service)}/metrics")).text
    expected = {
        "auth": ["parley_requests_total"],
        "registry": ["parley_requests_total"],
        "billing": ["parley_requests_total", "parley_holds_total"],
        "chat": ["parley_requests_total", "parley_chat_time_to_first_token_seconds_count"],
        "inference-llm": ["parley_llm_time_to_first_token_seconds_count", "parley_llm_tokens_total"],
        "inference-image": ["parley_image_queue_depth"],
    }
    for name in expected[service]:
        assert any(line.startswith(name) for line in shown.splitlines()), f"{service} has no {name}"


async def test_logs_have_request_and_trace_ids_and_no_prompt(mesh, me):
    conversation = await me.conversation()
    answer = await me.call("POST", f"/v1/conversations/{conversation}/messages", content=SECRET_WORD, maxOutputTokens=2)
    request_id = answer.headers["x-request-id"]
    await me.events(
        "GET", f"/v1/image-jobs/{(await me.post('/v1/image-jobs', prompt=SECRET_WORD, steps=1))['id']}:stream"
    )
    texts = {log.stem: log.read_text() for log in mesh.mesh.logs.glob("*.log")}
    assert set(texts) >= {"envoy", "chat", "billing", "postgres", "inference-llm", "inference-image"}
    for name, text in texts.items():
        assert SECRET_WORD not in text, name
        assert me.token not in text, name
        assert me.email not in text, name
    for name in ("chat", "billing", "inference-llm"):
        lines = [json.loads(line) for line in texts[name].splitlines() if request_id in line]
        assert lines, f"{name} logged nothing under the request id"
        assert all(line["trace_id"] for line in lines if line["event"] == "call")
