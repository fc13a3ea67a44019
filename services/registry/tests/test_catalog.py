"""Names, defaults, leases and limits, over gRPC."""

import json

import pytest
from parley.registry.v1 import model_pb2
from parley_kit.errors import ParleyError
from parley_registry.catalog import Catalog
from parley_registry.model import Announcement, Endpoint, Task
from parley_registry.seed import Catalogue
from prometheus_client import REGISTRY

from .conftest import CATALOGUE

IMAGE = model_pb2.Model.IMAGE


async def refusal(call):
    with pytest.raises(ParleyError) as refused:
        await call
    return refused.value


async def test_names_and_aliases(client):
    await client.renew("big")
    for name in ("big", "large"):
        found = await client.resolve(name)
        assert (found.model.id, found.model.available) == ("big", True)
        assert [endpoint.address for endpoint in found.endpoints] == ["one:1"]
    assert (await refusal(client.resolve("none"))).code == "MODEL_NOT_FOUND"
    assert (await refusal(client.resolve("big", IMAGE))).code == "MODEL_NOT_FOUND"
    assert (await refusal(client.find("none"))).code == "MODEL_NOT_FOUND"


async def test_a_known_model_without_replicas_is_found_without_endpoints(client):
    found = await client.resolve("big")
    assert not found.model.available
    assert list(found.endpoints) == []


@pytest.mark.parametrize("name", ["", "default"])
async def test_no_name_means_the_default_or_else_what_lives(client, name):
    assert (await client.resolve(name)).model.id == "big"
    await client.renew("own/chat")
    assert (await client.resolve(name)).model.id == "own/chat"
    await client.renew("big")
    assert (await client.resolve(name)).model.id == "big"
    assert (await client.resolve(name, IMAGE)).model.id == "painter"


async def test_a_dead_replica_disappears_within_its_lease(client, rows):
    await client.renew("big", "one")
    await client.renew("big", "two")
    assert {endpoint.replica_id for endpoint in (await client.resolve("big")).endpoints} == {"one", "two"}
    await rows("UPDATE registry.leases SET expires_at = now() WHERE replica_id = 'one'")
    assert [endpoint.replica_id for endpoint in (await client.resolve("big")).endpoints] == ["two"]
    await client.release("big", "two")
    await client.release("big", "two")
    assert not (await client.resolve("big")).model.available


async def test_renewing_moves_the_end_and_the_address(client):
    first = await client.renew("big", ttl=10)
    second = await client.renew("big", ttl=20)
    assert second.expire_time.ToDatetime() > first.expire_time.ToDatetime()
    assert len((await client.resolve("big")).endpoints) == 1


async def test_limits_are_the_smallest_that_anyone_states(client):
    await client.renew("big", "one", context_window=800, max_output_tokens=900)
    await client.renew("big", "two", context_window=600, max_output_tokens=0)
    model = (await client.resolve("big")).model
    assert (model.context_window, model.max_output_tokens) == (600, 500)


async def test_a_model_that_only_a_replica_knows_is_added_with_the_price_of_its_task(client):
    await client.renew("Org/Own-1B", context_window=4096, max_output_tokens=1024)
    model = (await client.resolve("Org/Own-1B")).model
    assert (model.context_window, model.max_output_tokens, model.tokens_per_minute) == (4096, 1024, 200_000)
    assert (model.price.version, model.price.input_micros_per_million_tokens) == (1, 7)
    assert (model.display_name, model.owned_by) == ("Own-1B", "Org")
    await client.release("Org/Own-1B")
    assert b"Own-1B" not in (await client.list()).data


async def test_a_replica_that_comes_while_the_file_is_read_does_not_change_its_price(client, repository):
    before = (await client.resolve("big")).model.price
    # Looked for before the file was read, added after it.
    announced = Announcement("big", Task.CHAT, Endpoint("one", "one:1"), 0, 0)
    await repository.add(announced, Catalogue.model_validate(CATALOGUE).announced_prices.chat)
    assert (await client.resolve("big")).model.price == before


@pytest.mark.parametrize(
    ("name", "task"), [("large", model_pb2.Model.CHAT), ("default", model_pb2.Model.CHAT), ("big", IMAGE)]
)
async def test_a_replica_cannot_take_a_name_that_means_something_else(client, name, task):
    refused = await refusal(client.renew(name, task=task))
    assert (refused.code, refused.fields[0].field) == ("INVALID_ARGUMENT", "model")


async def test_the_list_is_openais(client):
    await client.renew("big", context_window=800)
    answer = await client.list()
    assert answer.content_type == "application/json"
    listed = json.loads(answer.data)
    assert listed["object"] == "list"
    big, painter = listed["data"]
    assert {"id": "big", "object": "model", "owned_by": "us", "task": "chat", "default": True}.items() <= big.items()
    assert (big["context_window"], big["available"], big["aliases"]) == (800, True, ["large"])
    assert (big["tokens_per_minute"], painter["tokens_per_minute"]) == (3000, 0)
    assert (await client.resolve("big")).model.tokens_per_minute == 3000
    assert big["price"]["output_micros_per_million_tokens"] == 20
    assert (painter["available"], painter["price"]["micros_per_million_pixel_steps"]) == (False, 5)
    assert json.loads((await client.find("large")).data) == big


async def test_unknown_prices(client):
    assert (await refusal(client.price("big", 99))).code == "NOT_FOUND"
    assert (await refusal(client.price("none", 1))).code == "NOT_FOUND"


async def test_users_do_not_see_replicas(client):
    assert (await refusal(client.resolve("big", as_user=True))).code == "PERMISSION_DENIED"


async def test_the_sweep_forgets_and_measures(client, repository, rows):
    await client.renew("big", "one")
    await client.renew("big", "two")
    await rows("UPDATE registry.leases SET expires_at = now() - interval '1 hour' WHERE replica_id = 'one'")
    await Catalog(repository, Catalogue.model_validate(CATALOGUE).announced_prices).sweep()
    assert await rows("SELECT replica_id FROM registry.leases") == [("two",)]
    assert REGISTRY.get_sample_value("parley_living_replicas", {"model": "big"}) == 1
