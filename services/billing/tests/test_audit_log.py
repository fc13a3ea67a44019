"""What operators did, told by what cannot be changed."""

import uuid

import pytest
import sqlalchemy as sa
from parley_kit.errors import ParleyError

from .fake_stripe import event as stripe_event
from .test_allowances import invoice_of


async def test_a_grant_and_a_promotion_say_who_did_what_to_whom_and_why(client, user):
    grant = await client.grant(user, 5, reason="sorry")
    promotion = await client.promotion(amount_micros=100, max_uses=10, reason="spring")
    newest, before = (await client.events(page_size=2)).events
    assert (before.id, before.action, before.target) == (grant.id, "create_grant", str(user))
    assert (before.actor, before.details, before.reason) == ("service:operator", "5 micros", "sorry")
    assert before.create_time == grant.create_time
    assert (newest.id, newest.action, newest.target) == (promotion.id, "create_promotion", promotion.id)
    assert (newest.details, newest.reason) == ("100 micros, 10 uses", "spring")
    for event in (newest, before):
        assert uuid.UUID(event.request_id)


async def test_an_allowance_says_so(shop, user):
    given = await shop.allow(user, reason="a tester of the first hour")
    await shop.allow(user, given.id, reason="again")
    (event,) = (await shop.events(page_size=1)).events
    assert (event.id, event.action, event.target) == (given.id, "create_allowance", str(user))
    assert (event.actor, event.reason) == ("service:operator", "a tester of the first hour")
    assert event.details.startswith(f"{given.amount_micros} micros, plan plus, until 20")
    assert uuid.UUID(event.request_id)


async def test_a_refund_says_so_even_if_stripe_refuses_it(shop, user):
    bought, _ = await shop.buy(user)
    for _ in range(2):
        await shop.refund(bought.id, 100, "r", reason="it did not work")
    (event,) = [event for event in (await shop.events()).events if event.target == bought.id]
    assert (event.actor, event.action, event.reason) == ("service:operator", "refund_purchase", "it did not work")
    assert event.details == "100 minor units of eur"
    assert uuid.UUID(event.request_id)
    with pytest.raises(ParleyError) as refused:
        await shop.refund(bought.id, 99, "r")
    assert refused.value.code == "IDEMPOTENCY_CONFLICT"
    await shop.refund(bought.id, 0, "the-rest")
    with pytest.raises(ParleyError):
        await shop.refund(bought.id, 0, "more-than-there-is")
    details = [event.details for event in (await shop.events()).events if event.target == bought.id]
    assert details == ["all that is left", "all that is left", "100 minor units of eur"]


async def test_what_the_subscription_gave_is_nobody_s_action(shop, user):
    before = (await shop.events(page_size=1)).events
    await shop.tell_stripe(stripe_event("invoice.paid", invoice_of(user)))
    assert (await shop.events(page_size=1)).events == before


async def test_a_repeated_call_is_one_line_of_its_first_request(client, user):
    grant_id = uuid.uuid4()
    await client.grant(user, 5, grant_id)
    (first,) = (await client.events(page_size=1)).events
    await client.grant(user, 5, grant_id)
    assert list((await client.events(page_size=1)).events) == [first]


async def test_lists_go_in_pages(client, user):
    made = [(await client.grant(user, number + 1)).id for number in range(3)]
    made.insert(2, None)
    seen, token = [], ""
    while len(seen) < 3:
        page = await client.events(page_size=1, page_token=token)
        seen += [event.id for event in page.events]
        token = page.next_page_token
    assert seen == [made[3], made[1], made[0]]
    with pytest.raises(ParleyError, match="pageToken"):
        await client.events(page_token="x")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing.grants SET reason = ''",
        "DELETE FROM billing.promotions",
        "UPDATE billing.operator_actions SET actor = ''",
        "DELETE FROM billing.operator_actions",
    ],
)
async def test_the_service_cannot_change_it(client, user, rows, statement):
    await client.grant(user, 5)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        await rows(statement)
