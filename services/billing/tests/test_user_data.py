"""A user is forgotten as far as books can forget, which stay right."""

import asyncio
import json
import uuid

import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley.billing.v1 import user_data_service_pb2 as pb
from parley.billing.v1.user_data_service_pb2_grpc import UserDataServiceStub, add_UserDataServiceServicer_to_server
from parley_billing.rpc.user_data import UserDataService
from parley_billing.user_data import UserData
from parley_kit.db import new_id
from parley_kit.errors import ParleyError
from parley_kit.testing import serve_in_process

from .fake_stripe import event
from .shop_world import ALLOWANCE, CREDITS, PRICE, rc_event
from .world import GRANT, bearer

MARKER = "sesquipedalian"


class Data:
    """Calls billing as auth does."""

    def __init__(self, channel, token):
        self._stub, self._metadata = UserDataServiceStub(channel), bearer(token)

    async def erase(self, user):
        return (await self._stub.EraseUser(pb.EraseUserRequest(user_id=str(user)), metadata=self._metadata)).erased

    async def export(self, user):
        things = self._stub.ExportUser(pb.ExportUserRequest(user_id=str(user)), metadata=self._metadata)
        return [(thing.section, json.loads(thing.json)) async for thing in things]


@pytest_asyncio.fixture
async def data(repository, tokens):
    served = [(UserDataService(UserData(repository, new_id)), add_UserDataServiceServicer_to_server)]
    async with serve_in_process(served, tokens) as (channel, _):
        yield Data(channel, tokens.service("auth"))


@pytest.fixture
def owner_rows(owner):
    async def run(statement):
        async with owner.begin() as connection:
            await connection.execute(sa.text(statement))

    return run


async def clean(client):
    audit = await client.audit()
    wrong = {name: value for name, value in _values(audit).items() if name not in ("accounts", "entries") and value}
    assert wrong == {}


def _values(message):
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


async def traces(rows, marker=MARKER):
    tables = await rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'billing'")
    found = set()
    for (table,) in tables:
        for (row,) in await rows(f"SELECT to_jsonb(t)::text FROM billing.{table} t"):
            found |= {table} if marker in row else set()
    return found


async def used(client, user):
    """Give a user one of everything, with words of his own wherever there is room for them."""
    settled = await client.place(user, 10, request_id=f"{MARKER}-settled")
    await client.settle(settled.id, 7)
    released = await client.place(user, 10, request_id=f"{MARKER}-released")
    await client.release(released.id)
    await client.grant(user, 50)
    promotion = await client.promotion()
    await client.redeem(user, promotion.code, f"{MARKER}-redeemed")
    return promotion


async def test_requests_are_forgotten_and_the_books_stay_right(client, data, rows):
    user, other = uuid.uuid4(), uuid.uuid4()
    await used(client, user)
    before = await client.credits(user)
    assert await traces(rows) == {"holds", "redemptions"}
    assert await data.erase(user)
    assert await data.erase(user)
    assert await traces(rows) == set()
    await used(client, other)
    assert await traces(rows) == {"holds", "redemptions"}  # another's are left alone
    assert await data.erase(other)
    assert await client.credits(user) == before
    assert len((await client.entries(user)).entries) == 4  # welcome, charge, grant, promotion
    await clean(client)


async def test_a_closed_account_takes_no_hold_and_no_code_and_is_not_welcomed_again(client, data):
    promotion = await client.promotion()
    user, newcomer = uuid.uuid4(), uuid.uuid4()
    assert (await client.credits(user))[0] == GRANT
    for closed in (user, newcomer):
        assert await data.erase(closed)
        with pytest.raises(ParleyError) as refused:
            await client.place(closed, 1)
        assert refused.value.code == "INSUFFICIENT_CREDITS"
        with pytest.raises(ParleyError):
            await client.redeem(closed, promotion.code)
    assert (await client.credits(newcomer))[0] == 0
    assert (await client.get_promotion(promotion.id)).uses == 0
    await clean(client)


async def test_a_pending_hold_is_waited_for_and_settled_as_ever(client, data, rows):
    user = uuid.uuid4()
    hold = await client.place(user, 100, request_id=f"{MARKER}-pending")
    assert not await data.erase(user)
    assert (await client.settle(hold.id, 60)).charged_micros == 60
    assert await data.erase(user)
    assert (await client.credits(user))[:2] == (GRANT - 60, 0)
    assert await traces(rows) == set()
    await clean(client)


async def test_erasing_while_holds_are_placed_and_settled(client, data):
    user = uuid.uuid4()

    async def pay():
        try:
            hold = await client.place(user, 5)
        except ParleyError:  # closed
            return 0
        return (await client.settle(hold.id, 5)).charged_micros

    await client.credits(user)
    paid = asyncio.gather(*(pay() for _ in range(40)))
    await asyncio.gather(*(data.erase(user) for _ in range(5)))
    charged = sum(await paid)
    assert await data.erase(user)
    assert (await client.credits(user))[:2] == (GRANT - charged, 0)
    await clean(client)


async def test_nothing_but_the_request_of_a_redemption_may_change(client, owner_rows):
    await used(client, uuid.uuid4())
    for change in ("user_id = gen_random_uuid()", "created_at = now()"):
        with pytest.raises(Exception, match="immutable"):
            await owner_rows(f"UPDATE billing.redemptions SET {change}")
    with pytest.raises(Exception, match="immutable"):
        await owner_rows("DELETE FROM billing.redemptions")


async def test_everything_is_exported(client, data):
    user = uuid.uuid4()
    promotion = await used(client, user)
    things = await data.export(user)
    assert [section for section, _ in things] == [
        "creditAccounts", *["creditEntries"] * 4, "grants", "promotionRedemptions",
    ]  # fmt: skip
    balance, *_ = await client.credits(user)
    assert things[0][1]["balanceMicros"] == str(balance)
    assert sum(int(thing["amountMicros"]) for section, thing in things if section == "creditEntries") == balance
    assert things[-1][1]["code"] == promotion.code.replace("-", "")
    assert (things[0][1]["heldMicros"], things[0][1]["debtMicros"]) == ("0", "0")
    (charge,) = [thing for _, thing in things if thing.get("kind") == "charge"]
    assert (charge["model"], charge["inputTokens"], charge["amountMicros"]) == ("m", "7", "-7")
    assert await data.export(uuid.uuid4()) == []


async def test_what_was_bought_stays_in_the_books_and_can_still_be_refunded_and_paid(shop, data, rows):
    user, marker = uuid.uuid4(), uuid.uuid4().hex
    bought, _ = await shop.buy(user, request_id=f"{marker}-bought")
    pending = await shop.checkout(user, request_id=f"{marker}-open")
    await shop.allow(user)
    assert await traces(rows, marker) == {"purchases"}
    assert await data.erase(user)
    assert await traces(rows, marker) == set()
    kept = await rows("SELECT checkout_url, session <> '', payment FROM billing.purchases WHERE user_id = :u", u=user)
    assert [(url, session) for url, session, _ in kept] == [("", True)] * 2
    # The provider's numbers lead to what is told later: money that goes back, and a page that was open.
    assert (await shop.refund(bought.id)).reversed_micros == CREDITS
    session = shop.session_of(pending)
    shop.stripe.pay(session)
    await shop.tell_stripe(event("checkout.session.completed", session))
    assert (await shop.credits(user))[0] == GRANT + CREDITS + ALLOWANCE
    assert await data.erase(user)
    await clean(shop)


async def test_a_closed_account_begins_no_purchase_but_what_a_store_has_sold_is_booked(shop, data, rows):
    user, marker = uuid.uuid4(), uuid.uuid4().hex
    await shop.credits(user)
    assert await data.erase(user)
    sessions = len(shop.stripe.sessions)
    with pytest.raises(ParleyError) as refused:
        await shop.checkout(user, request_id=marker)
    assert refused.value.code == "FAILED_PRECONDITION"
    assert (len(shop.stripe.sessions), await traces(rows, marker)) == (sessions, set())
    await shop.tell_revenuecat(rc_event("NON_RENEWING_PURCHASE", user))
    assert (await shop.credits(user))[0] == GRANT + CREDITS
    assert await data.erase(user)
    await clean(shop)


async def test_erasing_while_checkouts_begin(shop, data, rows):
    user, marker = uuid.uuid4(), uuid.uuid4().hex

    async def begin(number):
        try:
            await shop.checkout(user, request_id=f"{marker}-{number}")
        except ParleyError as error:
            assert error.code == "FAILED_PRECONDITION"  # noqa: PT017 - others must pass

    begun = asyncio.gather(*(begin(number) for number in range(20)))
    await asyncio.sleep(0.05)
    await data.erase(user)
    await begun
    assert await data.erase(user)
    assert await traces(rows, marker) == set()
    assert await rows("SELECT id FROM billing.purchases WHERE user_id = :u AND checkout_url <> ''", u=user) == []
    await clean(shop)


async def test_what_was_bought_and_given_is_exported(shop, data):
    user = uuid.uuid4()
    bought, intent = await shop.buy(user, request_id="mine")
    await shop.refund(bought.id, PRICE // 3)
    given = await shop.allow(user)
    told = {}
    for section, thing in await data.export(user):
        told.setdefault(section, []).append(thing)
    (purchase,) = told["purchases"]
    assert (purchase["id"], purchase["requestId"], purchase["payment"], purchase["amountMinor"], purchase["state"]) == (
        bought.id, "mine", intent, str(PRICE), "PAID",
    )  # fmt: skip
    assert [reversal["amountMicros"] for reversal in purchase["reversals"]] == [str(CREDITS // 3)]
    (allowance,) = told["allowances"]
    assert (allowance["id"], allowance["plan"], allowance["amountMicros"]) == (given.id, "plus", str(ALLOWANCE))
    assert sum(int(thing["amountMicros"]) for thing in told["creditEntries"]) == (await shop.credits(user))[0]
