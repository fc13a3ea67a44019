import httpx
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from .proxy import envoy, until
from .upstreams import serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
MESSAGES = "/v1/conversations/c/messages"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps spans."""

    def __init__(self):
        self.spans = []

    async def Export(self, request, context):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    async def of_trace(self, trace_id, names):
        def find():
            found = {span.name: span for span in self.spans if span.trace_id.hex() == trace_id}
            return found if names <= found.keys() else None

        return await until(find)


@pytest_asyncio.fixture(scope="module")
async def traced(auth, chat, tmp_path_factory):
    collector = Collector()
    async with serving((collector, trace_service_pb2_grpc.add_TraceServiceServicer_to_server)) as (address, _):
        host, port = address.split(":")
        folder = tmp_path_factory.mktemp("traced")
        async with envoy({"auth": auth.address, "chat": chat}, folder, OTLP_HOST=host, OTLP_PORT=port) as proxy:
            yield proxy, collector


async def test_one_trace_from_the_client_through_envoy_to_the_service(traced, bearer, messages):
    proxy, collector = traced
    messages.seen.clear()
    async with httpx.AsyncClient(base_url=proxy.edge) as client:
        answer = await client.get(f"{MESSAGES}?pageToken=a-secret", headers={**bearer, "traceparent": PARENT})
    ((_, metadata),) = messages.seen
    spans = await collector.of_trace(TRACE, {"ingress", "router chat egress"})
    server, upstream = spans["ingress"], spans["router chat egress"]
    assert server.parent_span_id.hex() == PARENT.split("-")[2]
    assert upstream.parent_span_id == server.span_id
    assert metadata["traceparent"] == f"00-{TRACE}-{upstream.span_id.hex()}-01"
    tags = [(tag.key, tag.value.string_value) for span in (server, upstream) for tag in span.attributes]
    assert ("guid:x-request-id", answer.headers["x-request-id"]) in tags
    assert {value for key, value in tags if key == "http.url"} == {MESSAGES}
    assert not [value for _, value in tags if "a-secret" in value or "Bearer" in value]
    assert (await proxy.logged(trace_id=TRACE))["request_id"] == answer.headers["x-request-id"]


async def test_without_a_collector_nothing_is_traced(edge, bearer, messages):
    messages.seen.clear()
    assert (await edge.get(MESSAGES, headers=bearer)).status_code == 200
    ((_, metadata),) = messages.seen
    assert "traceparent" not in metadata
