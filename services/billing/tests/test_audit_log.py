"""What operators did, told by the grants and promotions themselves."""

import uuid

import pytest
import sqlalchemy as sa
from parley_kit.errors import ParleyError


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


@pytest.mark.parametrize("statement", ["UPDATE billing.grants SET reason = ''", "DELETE FROM billing.promotions"])
async def test_the_service_cannot_change_it(client, user, rows, statement):
    await client.grant(user, 5)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        await rows(statement)
