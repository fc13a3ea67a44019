"""Receipts, usage and statements; all of them add up to the ledger."""

import csv
import datetime as dt
import io
import uuid

import pytest
import sqlalchemy as sa
from google.protobuf.json_format import MessageToDict
from opentelemetry import trace
from parley_billing.repository.reports import ReportRepository
from parley_kit.errors import ParleyError

from .world import GRANT

TODAY = dt.datetime.now(dt.UTC).date()


async def spend(client, user, tokens, **more):
    hold = await client.place(user, tokens, **more)
    return await client.settle(hold.id, tokens)


@pytest.fixture
def backdate(owner):
    """Move a charge, or a user's welcome, to another time; the owner of the tables can, with its guards off."""

    async def move(cause, moment):
        values = {"cause": str(getattr(cause, "id", cause)), "moment": dt.datetime.fromisoformat(moment)}
        async with owner.begin() as connection:
            await connection.execute(sa.text("ALTER TABLE billing.entries DISABLE TRIGGER immutable"))
            for statement in (
                "UPDATE billing.holds SET resolved_at = :moment WHERE id = CAST(:cause AS uuid)",
                """UPDATE billing.entries SET created_at = :moment
                    WHERE transfer_id = (SELECT id FROM billing.transfers WHERE reference = :cause)""",
            ):
                await connection.execute(sa.text(statement), values)
            await connection.execute(sa.text("ALTER TABLE billing.entries ENABLE TRIGGER immutable"))

    return move


async def test_a_charge_bears_its_receipt(client, user):
    hold = await client.place(user, 600, request_id="the-request")
    await client.settle(hold.id, 100, output_tokens=50)
    charge, grant = (await client.entries(user)).entries
    assert (charge.reference, charge.model, charge.price_version) == (hold.id, "m", 1)
    assert (charge.quantity.input_tokens, charge.quantity.output_tokens) == (100, 50)
    assert charge.request_id == "the-request"
    assert charge.trace_id == ""  # nobody exports traces here
    assert (grant.reference, grant.request_id, grant.price_version) == ("", "", 0)


async def test_a_receipt_leads_to_the_trace(client, user, monkeypatch):
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=True)
    monkeypatch.setattr(trace, "get_current_span", lambda *_: trace.NonRecordingSpan(context))
    await spend(client, user, 1)
    assert (await client.entries(user)).entries[0].trace_id == f"{0xABC:032x}"


async def test_a_repeated_place_keeps_the_first_request(client, user):
    hold = await client.place(user, 10, request_id="first")
    await client.place(user, 10, hold.id, request_id="second")
    await client.settle(hold.id, 10)
    assert (await client.entries(user)).entries[0].request_id == "first"


async def test_usage_is_by_day_and_model(client, user, backdate):
    await backdate(await spend(client, user, 10), f"{TODAY - dt.timedelta(days=2)} 23:59:59.999999+00:00")
    await backdate(await spend(client, user, 20), f"{TODAY - dt.timedelta(days=1)} 00:00:00+00:00")
    for tokens in (1, 2):
        await spend(client, user, tokens)
    await spend(client, user, 4, model="other/model")
    await spend(client, uuid.uuid4(), 500)
    await client.place(user, 100)
    await client.release((await client.place(user, 100)).id)
    found = (await client.usage(user)).usage
    assert [(line.date, line.model, line.calls, line.charged_micros) for line in found] == [
        (str(TODAY - dt.timedelta(days=2)), "m", 1, 10),
        (str(TODAY - dt.timedelta(days=1)), "m", 1, 20),
        (str(TODAY), "m", 2, 3),
        (str(TODAY), "other/model", 1, 4),
    ]
    assert [line.quantity.input_tokens for line in found] == [10, 20, 3, 4]
    day = str(TODAY - dt.timedelta(days=1))
    assert [line.charged_micros for line in (await client.usage(user, **{"from": day, "to": day})).usage] == [20]


async def test_usage_comes_in_pages_and_adds_up_to_the_charges(client, user, backdate):
    for number in range(7):
        for model in ("m", "other/model"):
            hold = await spend(client, user, 3 * number + 1, model=model)
            await backdate(hold, f"{TODAY - dt.timedelta(days=number)} 12:00:00+00:00")
    seen, token = [], ""
    while True:
        page = await client.usage(user, page_size=3, page_token=token)
        assert len(page.usage) <= 3
        seen += page.usage
        token = page.next_page_token
        if not token:
            break
    assert [(line.date, line.model) for line in seen] == sorted((line.date, line.model) for line in seen)
    assert len(seen) == 14
    entries = (await client.entries(user, page_size=100)).entries
    assert sum(line.charged_micros for line in seen) == -sum(e.amount_micros for e in entries if e.kind == "charge")


async def test_usage_that_cost_nothing_is_told(client, user):
    hold = await client.place(user, 100)
    await client.settle(hold.id, 0)
    ((line),) = (await client.usage(user)).usage
    assert (line.calls, line.charged_micros) == (1, 0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"to": "1999-01-01"}, "to"),
        ({"to": "2026-01-01\n"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"from": "2025-01-01", "to": "2026-01-02"}, "from"),
        ({"page_size": 1001}, "pageSize"),
        ({"page_token": "x"}, "pageToken"),
        ({"page_token": "WyJhIiwgImIiXQ"}, "pageToken"),  # ["a", "b"]
        ({"page_token": "WyIiLCAiYiJd"}, "pageToken"),  # ["", "b"]
        ({"page_token": "WyIyMDI2LTAxLTAxIiwgIlx1MDAwMCJd"}, "pageToken"),  # ["2026-01-01", "\0"]
    ],
)
async def test_bad_fields_of_usage_are_named(client, user, values, field):
    with pytest.raises(ParleyError) as refused:
        await client.usage(user, **values)
    assert (refused.value.code, refused.value.fields[0].field) == ("INVALID_ARGUMENT", field)


@pytest.mark.parametrize("values", [{"to": "2000-01-01"}, {"from": "2999-12-31", "to": "2999-12-31"}, {}])
async def test_days_without_usage_are_empty(client, user, values):
    assert list((await client.usage(user, **values)).usage) == []


async def test_statements_add_up_month_by_month(client, user, backdate):
    await client.credits(user)
    await backdate(user, "2026-01-31 12:00:00+00:00")
    for moment, tokens, model in [
        ("2026-01-31 23:59:59.999999+00:00", 5, "m"),
        ("2026-02-01 00:00:00+00:00", 10, "m"),
        ("2026-02-28 23:59:59.999999+00:00", 20, "m"),
        ("2026-02-14 12:00:00+00:00", 40, "other/model"),
        ("2026-03-01 00:00:00+00:00", 80, "m"),
    ]:
        await backdate(await spend(client, user, tokens, model=model), moment)
    january, february, march, april = [await client.statement(user, f"2026-0{month}") for month in (1, 2, 3, 4)]
    assert MessageToDict(february) == {
        "month": "2026-02",
        "complete": True,
        "openingBalanceMicros": str(GRANT - 5),
        "lines": [
            {"kind": "charge", "model": "m", "entries": "2", "amountMicros": "-30"},
            {"kind": "charge", "model": "other/model", "entries": "1", "amountMicros": "-40"},
        ],
        "closingBalanceMicros": str(GRANT - 75),
    }
    assert january.opening_balance_micros == 0
    assert [(line.kind, line.amount_micros) for line in january.lines] == [("charge", -5), ("welcome_grant", GRANT)]
    assert january.closing_balance_micros == february.opening_balance_micros
    assert february.closing_balance_micros == march.opening_balance_micros
    assert list(april.lines) == []
    assert april.closing_balance_micros == (await client.credits(user))[0] == GRANT - 155


async def test_the_running_month_is_not_complete(client, user):
    await spend(client, user, 7)
    statement = await client.statement(user, f"{TODAY:%Y-%m}")
    assert not statement.complete
    assert statement.closing_balance_micros == (await client.credits(user))[0]


async def test_a_statement_as_csv_says_the_same(client, user):
    await spend(client, user, 7)
    await spend(client, user, 8, model="other/model")
    month = f"{TODAY:%Y-%m}"
    body = await client.statement_csv(user, month)
    assert body.content_type == "text/csv; charset=utf-8"
    opening, *lines, closing = csv.DictReader(io.StringIO(body.data.decode(), newline=""))
    told = await client.statement(user, month)
    assert (opening["kind"], int(opening["amount_micros"])) == ("opening_balance", told.opening_balance_micros)
    assert [(line["kind"], line["model"], int(line["entries"]), int(line["amount_micros"])) for line in lines] == [
        (line.kind, line.model, line.entries, line.amount_micros) for line in told.lines
    ]
    assert (closing["kind"], int(closing["amount_micros"])) == ("closing_balance", told.closing_balance_micros)
    assert sum(int(row["amount_micros"]) for row in (opening, *lines)) == int(closing["amount_micros"])


@pytest.mark.parametrize("month", ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-01\n", "2999-12", "x"])
async def test_bad_months_are_named(client, user, month):
    for call in (client.statement, client.statement_csv):
        with pytest.raises(ParleyError) as refused:
            await call(user, month)
        assert (refused.value.code, refused.value.fields[0].field) == ("INVALID_ARGUMENT", "month")


async def test_reports_open_no_account(client, user, rows):
    await client.usage(user)
    assert (await client.statement(user, "2026-01")).closing_balance_micros == 0
    assert await rows("SELECT 1 FROM billing.accounts WHERE user_id = :user", user=user) == []


async def test_reports_read_through_their_indexes(engine, user, rows):
    """A user's year is not found by reading everybody's."""
    plans = []
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SET enable_seqscan = off")
        store = ReportRepository(engine)

        async def explain(statement, **values):
            plan = await connection.execute(statement.__class__(f"EXPLAIN {statement.text}"), values)
            plans.append("\n".join(row[0] for row in plan))
            return []

        store._rows = explain
        await store.usage(user, TODAY, TODAY, (TODAY, "", ""), 1)
        with pytest.raises(ValueError, match="unpack"):
            await store.statement(user, dt.datetime.now(dt.UTC), dt.datetime.now(dt.UTC))
    assert "ix_holds_user_id_resolved_at" in plans[0]
    assert "ix_entries_account_id_created_at" in plans[1]
