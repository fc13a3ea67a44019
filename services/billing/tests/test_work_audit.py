"""Holds are compared with what they were for, both ways; the tests of this test are at its end."""

import datetime as dt
import random
import uuid

import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley_billing import work_audit
from parley_billing.pricing import Quantity
from parley_billing.rpc import servicers
from parley_billing.work import FIRST, Verdict, Work, WorkState, first_id
from parley_billing.work_audit import WorkAuditor
from parley_kit.db import new_id
from parley_kit.errors import Unavailable
from parley_kit.testing import serve_in_process
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from .world import GRANT, Client, PriceList

GRACE = dt.timedelta(minutes=10)


class Service:
    """A service that places holds: chat's side of the books, by hand. Its clock is that of the audit."""

    def __init__(self, client, repository, name):
        self.client, self.repository, self.name = client, repository, name
        self.works = {}
        self.pages = []
        self.down = False
        self.later = GRACE + dt.timedelta(seconds=2)
        self.complete_from = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        self.auditor = WorkAuditor(repository, {name: self, "absent": None}, self.now, GRACE)

    def now(self):
        return dt.datetime.now(dt.UTC) + self.later

    def new_id(self):
        """Return the id of what begins now, after which enough time passes for it to be compared."""
        self.later += dt.timedelta(seconds=1)
        return uuid.UUID(int=first_id(self.now() - GRACE - dt.timedelta(milliseconds=500)).int + random.getrandbits(64))

    async def page(self, after, up_to):
        if self.down:
            raise Unavailable("away")
        self.pages.append(after)
        found = sorted((work for work in self.works.values() if after < work.id <= up_to), key=lambda work: work.id)
        return found[: work_audit.PAGE], self.complete_from

    def note(self, hold, state=WorkState.DONE, *, due=True, **more):
        tokens = hold.quantity.input_tokens if hold.HasField("quantity") else 0
        ended = None if state is WorkState.OPEN else dt.datetime.now(dt.UTC)
        values = {
            "id": uuid.UUID(hold.id), "user_id": uuid.UUID(hold.user_id), "model": hold.model,
            "price_version": hold.price_version, "state": state, "due": due, "quantity": Quantity(tokens),
            "charged_micros": hold.charged_micros, "served": None, "ended_at": ended,
        } | more  # fmt: skip
        self.works[values["id"]] = Work(**values)

    async def settled(self, user, tokens=30, **more):
        """Compute something, charge it and write it down."""
        hold = await self.client.settle((await self.client.place(user, 100, self.new_id())).id, tokens)
        self.note(hold, **more)
        return hold

    async def released(self, user, **more):
        hold = await self.client.release((await self.client.place(user, 100, self.new_id())).id)
        self.note(hold, **{"due": False} | more)
        return hold

    async def audit(self, *, whole=True):
        audit, absent = await self.auditor.audit(whole=whole)
        assert (absent.compared, absent.problem) == (False, "NOT_SET_UP")
        return audit


@pytest_asyncio.fixture
async def service(repository, tokens):
    """Under a name of its own: the table of holds is shared by all tests."""
    name = f"compute-{uuid.uuid4().hex[:8]}"
    served = servicers(repository, PriceList(), welcome_grant=GRANT, new_id=new_id, now=lambda: dt.datetime.now(dt.UTC))
    async with serve_in_process(served, tokens) as (channel, _):
        client = Client(channel, tokens)
        client._service = tokens.service(name)
        yield Service(client, repository, name)


def found(audit):
    return {verdict.value: count for verdict, count in audit.drift.items() if count}


async def everything_right(service, user):
    await service.settled(user)
    await service.settled(user, 0)
    await service.released(user)
    expired = await service.released(user)
    await service.repository._rows(
        sa.text("UPDATE billing.holds SET state = 'EXPIRED' WHERE id = :id"), id=uuid.UUID(expired.id)
    )
    running = await service.client.place(user, 10, service.new_id())
    service.note(running, WorkState.OPEN, due=False)
    await service.client.release(
        (await service.client.place(user, 10, service.new_id())).id
    )  # an admission that came to nothing
    audit = await service.audit()
    assert audit.compared
    assert found(audit) == {}
    assert (audit.holds, audit.works) == (6, 5)


async def test_right_books_are_said_to_be_right(service, user):
    await everything_right(service, user)


async def test_a_deleted_user_and_holds_of_others_are_no_drift(service, client, user):
    await service.settled(user, user_id=None)
    await client.settle((await client.place(user, 10, service.new_id())).id, 5)  # chat's, which is not asked here
    audit = await service.audit()
    assert (found(audit), audit.holds, audit.works) == ({}, 1, 1)


async def work_without_a_hold(service, user):
    hold = await service.settled(user)
    service.note(hold, id=service.new_id())
    return {"works_without_hold": 1}


async def a_charge_for_nothing(service, user):
    hold = await service.settled(user)
    del service.works[uuid.UUID(hold.id)]
    return {"holds_without_work": 1}


async def credits_set_aside_for_nothing(service, user):
    await service.client.place(user, 100, service.new_id())
    return {"holds_without_work": 1}


async def delivered_and_never_charged(service, user):
    await service.released(user, due=True)
    return {"unsettled_works": 1}


async def ended_and_still_held(service, user):
    service.note(await service.client.place(user, 100, service.new_id()), due=False)
    return {"unsettled_works": 1}


async def another_charge(service, user):
    await service.settled(user, charged_micros=29)
    return {"mismatched_works": 1}


async def other_units(service, user):
    await service.settled(user, quantity=Quantity(30, 1))
    return {"mismatched_works": 1}


async def another_model(service, user):
    await service.settled(user, model="other/model")
    return {"mismatched_works": 1}


async def another_user(service, user):
    await service.settled(user, user_id=uuid.uuid4())
    return {"mismatched_works": 1}


async def another_fallback(service, user):
    await service.settled(user, served=("stand-in", 1))
    return {"mismatched_works": 1}


async def charged_before_its_end(service, user):
    await service.settled(user, state=WorkState.OPEN)
    return {"mismatched_works": 1}


WRONG = (
    work_without_a_hold, a_charge_for_nothing, credits_set_aside_for_nothing, delivered_and_never_charged,
    ended_and_still_held, another_charge, other_units, another_model, another_user, another_fallback,
    charged_before_its_end,
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_is_found(service, user, wrong):
    await service.settled(user)
    expected = await wrong(service, user)
    assert found(await service.audit()) == expected


async def test_what_is_on_its_way_is_no_drift_yet(service, user):
    service.later = GRACE - dt.timedelta(minutes=1)
    hold = await service.client.place(user, 100, new_id())
    service.note(hold, WorkState.OWED, charged_micros=30, quantity=Quantity(30))
    assert (await service.audit()).works == 0  # it began just now
    old = first_id(dt.datetime.now(dt.UTC) - 2 * GRACE)
    hold = await service.client.place(user, 100, old)
    service.note(hold, WorkState.OWED, charged_micros=30, quantity=Quantity(30))
    audit = await service.audit()
    assert (audit.works, found(audit)) == (1, {})  # it has ended just now
    await service.client.settle(hold.id, 29)  # resolved just now: the service has not written it down
    assert found(await service.audit()) == {}
    service.later = GRACE + dt.timedelta(seconds=2)
    service.note(hold, charged_micros=30, quantity=Quantity(30))
    assert found(await service.audit()) == {"unsettled_works": 1, "mismatched_works": 1}


async def test_a_turn_goes_on_where_all_before_is_right(service, user):
    await service.settled(user)
    assert (await service.audit(whole=False)).works == 1  # the first turn looks at everything
    await service.settled(user)
    assert (await service.audit(whole=False)).works == 1

    running = await service.client.place(user, 100, service.new_id())
    service.note(running, WorkState.OPEN, due=False)
    wrong = await service.settled(user, charged_micros=29)
    for _ in range(2):  # told until it is right
        audit = await service.audit(whole=False)
        assert found(audit) == {"mismatched_works": 1}
        assert audit.drifted_ids == [uuid.UUID(wrong.id)]
    service.note(wrong)
    service.note(await service.client.settle(running.id, 5))
    audit = await service.audit(whole=False)
    assert (found(audit), audit.works) == ({}, 2)
    assert (await service.audit(whole=False)).works == 0


async def test_once_a_day_a_turn_looks_at_everything(service, user):
    hold = await service.settled(user)
    assert found(await service.audit(whole=False)) == {}
    del service.works[uuid.UUID(hold.id)]  # a backup of before was played back
    assert found(await service.audit(whole=False)) == {}
    assert service.pages[-1] != FIRST
    service.later += dt.timedelta(days=1)
    assert found(await service.audit(whole=False)) == {"holds_without_work": 1}
    assert found(await service.audit(whole=False)) == {"holds_without_work": 1}


async def test_who_does_not_answer_was_not_compared(service, user):
    await service.settled(user)
    await service.audit(whole=False)
    mark = await service.repository.mark(service.name)
    wrong = await service.settled(user, charged_micros=29)
    service.down = True
    audit = await service.audit(whole=False)
    assert (audit.compared, audit.problem) == (False, "UNAVAILABLE")
    assert await service.repository.mark(service.name) == mark
    service.down = False
    assert (await service.audit(whole=False)).drifted_ids == [uuid.UUID(wrong.id)]


async def test_any_number_of_pages(service, user, monkeypatch):
    monkeypatch.setattr(work_audit, "PAGE", 3)
    for number in range(8):
        await service.settled(user, 1)
        if number % 3 == 0:
            service.note(await service.settled(user, 1), id=service.new_id())
            await a_charge_for_nothing(service, user)
    for _ in range(7):
        service.note(await service.released(user), id=service.new_id())
    audit = await service.audit()
    assert found(audit) == {"works_without_hold": 10, "holds_without_work": 3}
    assert (audit.holds, audit.works) == (8 + 3 + 3 + 7, 8 + 3 + 3 + 14)
    assert len(set(service.pages)) > 5


async def test_what_was_deleted_too_long_ago_leaves_no_trace(service, user):
    hold = await service.settled(user)
    del service.works[uuid.UUID(hold.id)]
    service.complete_from = service.now()
    assert found(await service.audit()) == {}


async def test_it_is_told_by_the_rpc_and_exported(service, tokens, user):
    wrong = await service.settled(user, charged_micros=29)
    with capture_logs() as logs:
        await service.auditor.audit_and_tell()
    assert {line["log_level"] for line in logs} == {"error", "warning"}
    assert [line["ids"] for line in logs if "ids" in line] == [[wrong.id]]
    labels = {"service": service.name, "what": "mismatched_works"}
    assert REGISTRY.get_sample_value("parley_work_drift", labels) == 1
    assert REGISTRY.get_sample_value("parley_work_drift", labels | {"what": "works_without_hold"}) == 0
    compared = REGISTRY.get_sample_value("parley_work_compared_timestamp_seconds", {"service": service.name})
    assert compared > 1_700_000_000
    assert REGISTRY.get_sample_value("parley_work_compared_timestamp_seconds", {"service": "absent"}) is None

    served = servicers(
        service.repository, PriceList(), welcome_grant=GRANT, new_id=new_id, now=service.now, work=service.auditor
    )
    async with serve_in_process(served, tokens) as (channel, _):
        told, absent = (await Client(channel, tokens).audit()).work
    assert (told.service, told.compared, told.holds, told.works) == (service.name, True, 1, 1)
    assert (told.mismatched_works, told.works_without_hold, told.drifted_ids) == (1, 0, [wrong.id])
    assert told.up_to.seconds > told.complete_from.seconds > 0
    assert (absent.service, absent.compared, absent.problem) == ("absent", False, "NOT_SET_UP")


def _blind(verdict):
    real = work_audit.judge
    return lambda *arguments: Verdict.RIGHT if real(*arguments) is verdict else real(*arguments)


MUTANTS = {
    "nobody looks for the hold of work": ("judge", _blind(Verdict.WORK_WITHOUT_HOLD), work_without_a_hold),
    "nobody looks for the work of a hold": ("judge_hold", lambda hold: Verdict.RIGHT, a_charge_for_nothing),
    "pending holds need no work": (
        "judge_hold",
        lambda hold: Verdict.HOLD_WITHOUT_WORK if hold.state == "SETTLED" else Verdict.RIGHT,
        credits_set_aside_for_nothing,
    ),
    "nobody looks whether it was charged": ("judge", _blind(Verdict.UNSETTLED), delivered_and_never_charged),
    "nobody compares what was charged": ("judge", _blind(Verdict.MISMATCHED), another_charge),
}


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_an_audit_that_is_blind_on_one_side_fails(service, user, monkeypatch, mutant):
    name, by, scenario = MUTANTS[mutant]
    monkeypatch.setattr(work_audit, name, by)
    with pytest.raises(AssertionError):
        await test_what_is_wrong_is_found(service, user, scenario)


async def test_an_audit_that_suspects_every_hold_fails(service, user, monkeypatch):
    monkeypatch.setattr(work_audit, "judge_hold", lambda hold: Verdict.HOLD_WITHOUT_WORK)
    with pytest.raises(AssertionError):
        await everything_right(service, user)
