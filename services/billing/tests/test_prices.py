"""What billing understands of the registry's prices, over gRPC."""

import pytest
from parley.registry.v1 import catalog_service_pb2_grpc, model_pb2
from parley_billing.clients import GrpcPrices
from parley_kit.clients import open_channel
from parley_kit.testing import TestTokens, serve_in_process


class Catalog(catalog_service_pb2_grpc.CatalogServiceServicer):
    """A registry with one price."""

    def __init__(self, price):
        self._price = price

    async def GetPrice(self, request, context):
        return self._price


class Billing(TestTokens):
    """Billing's own tokens."""

    async def token(self):
        return self.service("billing")


@pytest.mark.parametrize(("said", "understood"), [({}, 10), ({"cached_input_micros_per_million_tokens": 0}, 0)])
async def test_cached_tokens_are_free_only_when_the_registry_says_so(said, understood):
    price = model_pb2.Price(version=1, input_micros_per_million_tokens=10, **said)
    tokens = Billing()
    served = [(Catalog(price), catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server)]
    async with serve_in_process(served, tokens) as (_, address):
        channel = open_channel(address, tokens)
        assert (await GrpcPrices(channel).get("m", 1)).cached_input_tokens == understood
        await channel.close()
