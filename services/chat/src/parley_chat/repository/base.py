"""What the parts of the repository share: transactions, the columns and rows of messages and generations."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_chat.conversation import Message
from parley_chat.generation import Ending, FinishReason, Generation, Price, Sampling, Served, State, Usage
from parley_chat.lengths import unpack_lengths
from parley_chat.models import generations, messages

_g, _m = generations.c, messages.c
MESSAGE = (
    _m.id,
    _m.conversation_id,
    _m.position,
    _m.role,
    sa.func.coalesce(_g.text, _m.content).label("content"),
    _m.created_at,
    _m.generation_id,
    sa.func.coalesce(_g.served_model, _g.model).label("model"),
    _g.state,
    _g.finish_reason,
    _g.input_tokens,
    _g.output_tokens,
    _g.cached_input_tokens,
    _g.charged_micros,
    _g.error,
    _g.error_reason,
)


class Base:
    """Runs statements. `owner` is this process, `lease` how long it owns a generation without a sign of life."""

    def __init__(self, engine: AsyncEngine, owner: uuid.UUID, lease: dt.timedelta) -> None:
        self._engine = engine
        # A statement alone is a transaction of its own: one round trip instead of three.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._owner = owner
        self._lease = lease

    async def _rows(self, statement: sa.Executable, values: dict[str, Any] | None = None) -> Sequence[sa.Row[Any]]:
        async with self._single.connect() as connection:
            result = await connection.execute(statement, values)
            return result.all()

    async def _row(self, statement: sa.Executable, values: dict[str, Any] | None = None) -> sa.Row[Any] | None:
        rows = await self._rows(statement, values)
        return rows[0] if rows else None

    async def _do(self, statement: sa.Executable, values: dict[str, Any] | None = None) -> None:
        async with self._single.connect() as connection:
            await connection.execute(statement, values)


def to_message(row: sa.Row[Any]) -> Message:
    """Read the columns MESSAGE."""
    answer = row.generation_id is not None
    return Message(
        id=row.id,
        conversation_id=row.conversation_id,
        position=row.position,
        role=row.role,
        content=row.content,
        created_at=row.created_at,
        model=row.model or "",
        generation_id=row.generation_id,
        state=State(row.state) if answer else State.COMPLETE,
        ending=to_ending(row) if answer else None,
    )


def to_ending(row: sa.Row[Any]) -> Ending | None:
    """Read how a generation ended; None while it runs."""
    if row.finish_reason is None:
        return None
    return Ending(
        State(row.state),
        FinishReason(row.finish_reason),
        to_usage(row),
        row.charged_micros,
        row.error,
        error_reason=row.error_reason,
    )


def to_usage(row: sa.Row[Any]) -> Usage:
    """Read counted tokens."""
    return Usage(row.input_tokens, row.output_tokens, row.cached_input_tokens)


def to_price(version: int, input_micros: int, output_micros: int, cached_input_micros: int | None) -> Price:
    """Read a price; one without a price of cached tokens is from before there were any."""
    cached = input_micros if cached_input_micros is None else cached_input_micros
    return Price(version, input_micros, output_micros, cached)


def served_columns(served: Served | None) -> dict[str, Any]:
    """Return the columns that say which fallback serves, at which price."""
    price = served.price if served else None
    return {
        "served_model": served.model if served else None,
        "served_price_version": price.version if price else None,
        "served_input_price_micros": price.input_micros if price else None,
        "served_output_price_micros": price.output_micros if price else None,
        "served_cached_input_price_micros": price.cached_input_micros if price else None,
    }


def _to_served(row: sa.Row[Any]) -> Served | None:
    if row.served_model is None:
        return None
    price = to_price(
        row.served_price_version,
        row.served_input_price_micros,
        row.served_output_price_micros,
        row.served_cached_input_price_micros,
    )
    return Served(row.served_model, price)


def to_generation(row: sa.Row[Any]) -> Generation:
    """Read all columns of a generation."""
    sampling = row.sampling if isinstance(row.sampling, dict) else json.loads(row.sampling)
    return Generation(
        id=row.id,
        user_id=row.user_id,
        conversation_id=row.conversation_id,
        message_id=row.message_id,
        request_id=row.request_id,
        fingerprint=row.fingerprint,
        model=row.model,
        price=to_price(
            row.price_version, row.input_price_micros, row.output_price_micros, row.cached_input_price_micros
        ),
        state=State(row.state),
        sampling=Sampling(**{**sampling, "stop": tuple(sampling.get("stop", ()))}),
        prompt_from=row.prompt_from,
        prompt_to=row.prompt_to,
        text=row.text,
        delta_lengths=unpack_lengths(row.delta_lengths),
        branches=tuple(row.branches),
        usage=to_usage(row),
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        ending=to_ending(row),
        served=_to_served(row),
    )
