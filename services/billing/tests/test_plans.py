"""What a plan gives besides credits, as chat is told."""

import uuid

import pytest
from parley.billing.v1 import plan_service_pb2 as pb
from parley.billing.v1.plan_service_pb2_grpc import PlanServiceStub
from parley_billing.catalogue import Catalogue
from parley_billing.plans import Plans, UserLimits
from pydantic import ValidationError

from .world import bearer, told

EVERYBODY = UserLimits()


@pytest.fixture
def limits(shop, tokens):
    async def ask(user):
        request = pb.GetUserLimitsRequest(user_id=str(user))
        answer = await told(
            PlanServiceStub(shop.channel).GetUserLimits(request, metadata=bearer(tokens.service("chat")))
        )
        return UserLimits(answer.tokens_per_minute_factor, answer.max_generations)

    return ask


async def test_who_has_no_plan_has_what_everybody_has(limits, user):
    assert await limits(user) == EVERYBODY
    assert await limits(uuid.uuid4()) == EVERYBODY  # one whom billing has never seen


async def test_the_best_of_a_user_s_plans_counts(shop, limits, user):
    await shop.allow(user, plan="plus")
    assert await limits(user) == UserLimits(4, 8)
    await shop.allow(user, plan="pro")
    assert await limits(user) == UserLimits(10, 8)


async def test_a_plan_outlives_its_credits_and_not_its_time(shop, limits, user, rows):
    given = await shop.allow(user, plan="plus")
    balance, *_ = await shop.credits(user)
    await shop.spend(user, balance)
    assert await limits(user) == UserLimits(4, 8)
    await rows("UPDATE billing.allowances SET expires_at = now() WHERE id = :id", id=uuid.UUID(given.id))
    assert await limits(user) == EVERYBODY


async def test_a_plan_that_is_sold_no_more_gives_what_everybody_has(shop, repository, user):
    await shop.allow(user, plan="plus")
    assert await Plans(repository, Catalogue()).limits(user) == EVERYBODY


@pytest.mark.parametrize("wrong", [{"tokens_per_minute_factor": 0}, {"max_generations": -1}, {"max_generations": 2000}])
def test_a_catalogue_gives_no_less_than_everybody_has(wrong):
    with pytest.raises(ValidationError):
        Catalogue.model_validate({"plans": [{"id": "p", "display_name": "P", "credits_micros": 1, **wrong}]})
