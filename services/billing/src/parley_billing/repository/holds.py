"""Holds."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import asdict, astuple, fields
from typing import Any

import asyncpg
import sqlalchemy as sa

from parley_billing.errors import KeyLimitReached
from parley_billing.hold import Hold, NewHold, Origin, Served, State
from parley_billing.models import REVENUE
from parley_billing.pricing import Price, Quantity
from parley_billing.repository.base import Base

# Of two racers with one id the later violates the primary key, which undoes its whole statement; so does a hold that goes
# beyond its API key's limit, which the key's own row checks: a trigger keeps the sums of keys, whatever becomes of a hold.
_PLACE = sa.text("""
    WITH account AS (
        UPDATE billing.accounts SET held_micros = held_micros + :amount
        WHERE user_id = :user_id AND closed_at IS NULL AND balance_micros - held_micros >= :amount
          AND NOT EXISTS (SELECT FROM billing.holds WHERE id = :id)
        RETURNING id
    )
    INSERT INTO billing.holds (id, account_id, user_id, amount_micros, model, price_version, input_price, output_price,
        pixel_step_price, cached_input_price, audio_second_price, max_input_tokens, max_output_tokens, max_pixel_steps,
        max_audio_seconds, placed_units, expires_at, request_id, trace_id, api_key_id, api_key_limit_micros,
        placed_by)
    SELECT :id, account.id, :user_id, :amount, :model, :price_version, :input_price, :output_price,
        :pixel_step_price, :cached_input_price, :audio_second_price, :max_input_tokens, :max_output_tokens, :max_pixel_steps,
        :max_audio_seconds, :placed_units, now() + :ttl, :request_id, :trace_id, :api_key_id, :api_key_limit,
        :placed_by
    FROM account
    RETURNING *
""").bindparams(
    sa.bindparam("api_key_id", type_=sa.Uuid),
    sa.bindparam("api_key_limit", type_=sa.BigInteger),
)

# The hold is locked before the account, and a racer sees what the winner left: an extension adds the difference to what is
# held then.
_EXTEND = sa.text("""
    WITH hold AS (
        SELECT id, account_id, amount_micros FROM billing.holds
        WHERE id = :id AND state = 'PENDING' AND max_input_tokens <= :max_input_tokens
          AND max_output_tokens <= :max_output_tokens AND max_pixel_steps <= :max_pixel_steps
          AND max_audio_seconds <= :max_audio_seconds
          AND (max_input_tokens, max_output_tokens, max_pixel_steps, max_audio_seconds)
            <> (:max_input_tokens, :max_output_tokens, :max_pixel_steps, :max_audio_seconds)
        FOR UPDATE
    ), account AS (
        UPDATE billing.accounts AS account SET held_micros = account.held_micros + :amount - hold.amount_micros
        FROM hold WHERE account.id = hold.account_id
          AND account.balance_micros - account.held_micros >= :amount - hold.amount_micros
        RETURNING account.id
    )
    UPDATE billing.holds AS extended
    SET amount_micros = :amount, max_input_tokens = :max_input_tokens, max_output_tokens = :max_output_tokens,
        max_pixel_steps = :max_pixel_steps, max_audio_seconds = :max_audio_seconds,
        expires_at = GREATEST(extended.expires_at, now() + :ttl)
    FROM account WHERE extended.id = :id
    RETURNING extended.*
""").bindparams(
    sa.bindparam("amount", type_=sa.BigInteger),
    *(
        sa.bindparam(f"max_{unit}", type_=sa.BigInteger)
        for unit in ("input_tokens", "output_tokens", "pixel_steps", "audio_seconds")
    ),
)

# pricing.py's formula, so that settling is one round trip.
_PRICE = """
    div(CAST(:input_tokens - :cached_input_tokens AS numeric) * {input_tokens}
        + CAST(:cached_input_tokens AS numeric) * {cached_input_tokens}
        + CAST(:output_tokens AS numeric) * {output_tokens} + CAST(:pixel_steps AS numeric) * {pixel_steps}
        + CAST(:audio_seconds AS numeric) * {audio_seconds} + 999999, 1000000)
"""
_PINNED = _PRICE.format(
    input_tokens="hold.input_price",
    cached_input_tokens="coalesce(hold.cached_input_price, hold.input_price)",
    output_tokens="hold.output_price",
    pixel_steps="hold.pixel_step_price",
    audio_seconds="hold.audio_second_price",
)
_SERVED = _PRICE.format(**{unit.name: f":served_{unit.name}" for unit in fields(Quantity)})
# A pending hold pays from what it set aside. An expired one has set nothing aside any more: it pays from what is
# available now, of the account and of its API key, at most that (LEAST leaves NULL out). FOR UPDATE makes a racer wait and
# then see the state that the winner left. What is written comes from the rows as they were locked: Postgres checks the
# constraints of an UPDATE on the version that the statement's snapshot shows, before it meets the newer one, and a version of
# before the extension that was waited for would violate them.
_SETTLE = sa.text(f"""
    WITH hold AS (
        SELECT id, account_id, amount_micros, state, api_key_id,
            CAST(LEAST({_PINNED}, {_SERVED}, amount_micros) AS bigint) AS price  -- LEAST leaves NULL out
        FROM billing.holds AS hold
        WHERE id = :id AND state IN ('PENDING', 'EXPIRED')
        FOR UPDATE
    ), due AS (
        SELECT account.id, account.balance_micros, account.held_micros,
            CASE hold.state WHEN 'PENDING' THEN hold.amount_micros ELSE 0 END AS freed,
            CASE hold.state WHEN 'PENDING' THEN hold.price
                ELSE LEAST(hold.price, account.balance_micros - account.held_micros, (
                    SELECT limit_micros - spent_micros - held_micros FROM billing.api_keys WHERE id = hold.api_key_id
                )) END AS charged
        FROM billing.accounts AS account JOIN hold ON account.id = hold.account_id
        FOR UPDATE OF account
    ), account AS (
        UPDATE billing.accounts AS account
        SET balance_micros = due.balance_micros - due.charged, held_micros = due.held_micros - due.freed
        FROM due WHERE account.id = due.id
        RETURNING account.id, account.balance_micros, due.charged
    ), transfer AS (
        INSERT INTO billing.transfers (id, kind, reference)
        SELECT :transfer_id, 'charge', CAST(:id AS text) FROM account WHERE charged > 0
        RETURNING id
    ), booked AS (
        INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
        SELECT transfer.id, account.id, -account.charged, account.balance_micros FROM transfer, account
        UNION ALL
        SELECT transfer.id, :revenue, account.charged, NULL FROM transfer, account
    )
    UPDATE billing.holds AS settled
    SET state = 'SETTLED', amount_micros = hold.amount_micros, charged_micros = account.charged, resolved_at = now(),
        input_tokens = :input_tokens, output_tokens = :output_tokens, pixel_steps = :pixel_steps,
        cached_input_tokens = :cached_input_tokens, audio_seconds = :audio_seconds,
        served_model = :served_model, served_price_version = :served_price_version, served_prices = :served_prices
    FROM account, hold WHERE settled.id = hold.id
    RETURNING settled.*, hold.state AS was
""").bindparams(  # noqa: S608 - of our own parts
    sa.bindparam("id", type_=sa.Uuid),
    sa.bindparam("transfer_id", type_=sa.Uuid),
    sa.bindparam("revenue", type_=sa.Uuid),
    *(sa.bindparam(unit.name, type_=sa.BigInteger) for unit in fields(Quantity)),
    *(sa.bindparam(f"served_{unit.name}", type_=sa.BigInteger) for unit in fields(Quantity)),
)

_FREE = """
    WITH freed AS (
        UPDATE billing.holds SET state = :state, resolved_at = now()
        WHERE id = :id AND state = 'PENDING' {only}
        RETURNING *
    ), locked AS (
        SELECT account.id, account.held_micros - freed.amount_micros AS held_micros
        FROM billing.accounts AS account JOIN freed ON account.id = freed.account_id
        FOR UPDATE OF account
    ), account AS (
        UPDATE billing.accounts AS account SET held_micros = locked.held_micros FROM locked WHERE account.id = locked.id
    )
    SELECT * FROM freed
"""
_RELEASE = sa.text(_FREE.format(only=""))
_EXPIRE = sa.text(_FREE.format(only="AND expires_at < now()"))

_USED = sa.text("SELECT spent_micros + held_micros AS used FROM billing.api_keys WHERE id = :id")
_KEY_OF = sa.text("""
    SELECT key.limit_micros - key.spent_micros - key.held_micros AS left_micros
    FROM billing.holds AS hold JOIN billing.api_keys AS key ON key.id = hold.api_key_id WHERE hold.id = :id
""")
_KEY_LIMIT = "ck_api_keys_within_limit"
_GET = sa.text("SELECT * FROM billing.holds WHERE id = :id")
_OVERDUE = sa.text(
    "SELECT id FROM billing.holds WHERE state = 'PENDING' AND expires_at < now() ORDER BY expires_at LIMIT 500"
)
_PENDING = sa.text("SELECT count(*) FROM billing.holds WHERE state = 'PENDING'")


class HoldRepository(Base):
    """The life of a hold."""

    async def _hold(self, statement: sa.TextClause, **values: Any) -> Hold | None:
        record = await self._record(statement, **values)
        return _to_hold(record) if record else None

    async def get(self, hold_id: uuid.UUID) -> Hold | None:
        """Return a hold."""
        return await self._hold(_GET, id=hold_id)

    async def place(self, new: NewHold) -> Hold | None:
        """Set credits aside; None when there is no account, too little in it, or such a hold already."""
        try:
            return await self._hold(
                _PLACE,
                id=new.id,
                user_id=new.user_id,
                amount=new.amount_micros,
                model=new.model,
                price_version=new.price.version,
                input_price=new.price.input_tokens,
                output_price=new.price.output_tokens,
                pixel_step_price=new.price.pixel_steps,
                cached_input_price=new.price.cached_input_tokens,
                audio_second_price=new.price.audio_seconds,
                max_input_tokens=new.max_quantity.input_tokens,
                max_output_tokens=new.max_quantity.output_tokens,
                max_pixel_steps=new.max_quantity.pixel_steps,
                max_audio_seconds=new.max_quantity.audio_seconds,
                placed_units=astuple(new.max_quantity),
                ttl=new.ttl,
                request_id=new.origin.request_id,
                trace_id=new.origin.trace_id,
                api_key_id=new.origin.api_key_id,
                api_key_limit=new.origin.api_key_limit_micros,
                placed_by=new.origin.placed_by,
            )
        except asyncpg.IntegrityConstraintViolationError as error:
            if error.constraint_name == _KEY_LIMIT:
                raise KeyLimitReached(needed=new.amount_micros, left=await self._left(new.origin)) from None
            if await self.get(new.id) is None:
                raise
            return None

    async def extend(self, hold_id: uuid.UUID, amount: int, max_quantity: Quantity, ttl: dt.timedelta) -> Hold | None:
        """Raise a hold to a larger quantity and its amount; None when it is not pending or for more, or too little is there.

        KeyLimitReached beyond the limit of its API key.
        """
        try:
            return await self._hold(
                _EXTEND,
                id=hold_id,
                amount=amount,
                max_input_tokens=max_quantity.input_tokens,
                max_output_tokens=max_quantity.output_tokens,
                max_pixel_steps=max_quantity.pixel_steps,
                max_audio_seconds=max_quantity.audio_seconds,
                ttl=ttl,
            )
        except asyncpg.CheckViolationError as error:
            if error.constraint_name != _KEY_LIMIT:
                raise
            held = await self.get(hold_id)
            (key,) = await self._rows(_KEY_OF, id=hold_id)
            raise KeyLimitReached(needed=amount - (held.amount_micros if held else 0), left=key.left_micros) from None

    async def settle(
        self, hold_id: uuid.UUID, quantity: Quantity, served: Served | None, transfer_id: uuid.UUID
    ) -> tuple[Hold, State] | None:
        """Charge the price of a quantity, at most the hold, and free the rest; returns also what it was before.

        None when the hold is neither pending nor expired, and when what was left of an API key's limit changed at the same
        moment: then it is to be tried again.
        """
        prices = dict.fromkeys(asdict(quantity)) if served is None else asdict(served.price)
        try:
            record = await self._record(
                _SETTLE,
                id=hold_id,
                transfer_id=transfer_id,
                revenue=REVENUE,
                **asdict(quantity),
                **{f"served_{unit.name}": prices[unit.name] for unit in fields(Quantity)},
                served_model=served.model if served else None,
                served_price_version=served.price.version if served else None,
                served_prices=[prices[unit.name] for unit in fields(Quantity)] if served else None,
            )
        except asyncpg.CheckViolationError as error:
            if error.constraint_name == _KEY_LIMIT:
                return None
            raise
        return (_to_hold(record), State(record["was"])) if record else None

    async def _left(self, origin: Origin) -> int:
        """Return what is left of an API key's limit, in micros; nothing when the limit is less than what was spent."""
        rows = await self._rows(_USED, id=origin.api_key_id)
        return max((origin.api_key_limit_micros or 0) - (rows[0].used if rows else 0), 0)

    async def release(self, hold_id: uuid.UUID) -> Hold | None:
        """Free a hold; None when it is not pending."""
        return await self._hold(_RELEASE, id=hold_id, state=State.RELEASED)

    async def expire(self, hold_id: uuid.UUID) -> Hold | None:
        """Free a hold whose time is over; None when it is not pending or not over."""
        return await self._hold(_EXPIRE, id=hold_id, state=State.EXPIRED)

    async def overdue(self) -> list[uuid.UUID]:
        """Return pending holds whose time is over, some at a time."""
        return [row.id for row in await self._rows(_OVERDUE)]

    async def pending(self) -> int:
        """Count pending holds."""
        return int((await self._rows(_PENDING))[0][0])


def _to_hold(row: asyncpg.Record) -> Hold:
    settled = row["input_tokens"] is not None
    cached_price = row["input_price"] if row["cached_input_price"] is None else row["cached_input_price"]
    price = Price(
        row["price_version"],
        row["input_price"],
        row["output_price"],
        row["pixel_step_price"],
        cached_price,
        row["audio_second_price"],
    )
    maximum = (row["max_input_tokens"], row["max_output_tokens"], row["max_pixel_steps"], 0, row["max_audio_seconds"])
    return Hold(
        id=row["id"],
        user_id=row["user_id"],
        state=State(row["state"]),
        amount_micros=row["amount_micros"],
        charged_micros=row["charged_micros"],
        model=row["model"],
        price=price,
        max_quantity=Quantity(*maximum),
        quantity=Quantity(*(row[unit.name] for unit in fields(Quantity))) if settled else None,
        expires_at=row["expires_at"],
        api_key_id=row["api_key_id"],
        placed_quantity=Quantity(*(row["placed_units"] or maximum)),
        served=None
        if row["served_model"] is None
        else Served(row["served_model"], Price(row["served_price_version"], *row["served_prices"])),
    )
