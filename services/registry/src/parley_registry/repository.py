"""All SQL of the registry. Times are the database's clock."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from parley_registry.model import TOKENS_PER_MINUTE, Announcement, Endpoint, Model, Price, Task
from parley_registry.models import aliases, models, prices
from parley_registry.seed import Catalogue, SeedPrice

_SEED_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('registry seed'))")

# Limits are the smallest that anyone states: a replica may have been started with less than its model could do.
_MODELS = """
    SELECT model.id, model.task, model.display_name, model.description, model.owned_by, model.is_default, model.created_at,
        coalesce(LEAST(nullif(model.context_window, 0), living.context_window), 0) AS context_window,
        coalesce(LEAST(nullif(model.max_output_tokens, 0), living.max_output_tokens), 0) AS max_output_tokens,
        CASE WHEN model.task = 'chat' THEN model.tokens_per_minute ELSE 0 END AS tokens_per_minute,
        price.version, price.input_price, price.output_price, price.pixel_step_price, price.cached_input_price,
        price.audio_second_price, model.fallbacks,
        ARRAY(SELECT alias FROM registry.aliases WHERE model_id = model.id ORDER BY alias) AS aliases,
        living.replica_ids, living.addresses
    FROM registry.models AS model
    JOIN LATERAL (
        SELECT * FROM registry.prices WHERE model_id = model.id ORDER BY version DESC LIMIT 1
    ) AS price ON true
    JOIN LATERAL (
        SELECT array_agg(replica_id ORDER BY replica_id) AS replica_ids, array_agg(address ORDER BY replica_id) AS addresses,
            min(nullif(context_window, 0)) AS context_window, min(nullif(max_output_tokens, 0)) AS max_output_tokens
        FROM registry.leases WHERE model_id = model.id AND expires_at > now()
    ) AS living ON true
"""
_LISTED = sa.text(f"{_MODELS} WHERE model.in_catalogue OR living.addresses IS NOT NULL ORDER BY model.task, model.id")
_OF_TASK = sa.text(f"{_MODELS} WHERE model.task = :task")
_BY_NAME = sa.text(f"""{_MODELS}
    WHERE model.id = :name OR model.id = (SELECT model_id FROM registry.aliases WHERE alias = :name)
""")  # noqa: S608 - our own text
_PRICE = sa.text("SELECT * FROM registry.prices WHERE model_id = :model AND version = :version")
_RENEW = sa.text("""
    INSERT INTO registry.leases (model_id, replica_id, address, context_window, max_output_tokens, expires_at)
    SELECT id, :replica_id, :address, :context_window, :max_output_tokens, now() + :ttl
    FROM registry.models WHERE id = :model AND task = :task
    ON CONFLICT (model_id, replica_id) DO UPDATE SET address = excluded.address, expires_at = excluded.expires_at,
        context_window = excluded.context_window, max_output_tokens = excluded.max_output_tokens
    RETURNING expires_at
""")
_RELEASE = sa.text("DELETE FROM registry.leases WHERE model_id = :model AND replica_id = :replica_id")
_FORGET = sa.text("DELETE FROM registry.leases WHERE expires_at < now() - interval '1 minute'")
_LIVING = sa.text(
    "SELECT model_id, count(*) AS replicas FROM registry.leases WHERE expires_at > now() GROUP BY model_id"
)


class Repository:
    """The catalogue in Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def _rows(self, statement: sa.Executable, **values: Any) -> list[sa.Row[Any]]:
        async with self._single.connect() as connection:
            result = await connection.execute(statement, values)
            return list(result) if result.returns_rows else []

    async def listed(self) -> list[Model]:
        """Return the models that users see."""
        return [_to_model(row) for row in await self._rows(_LISTED)]

    async def of_task(self, task: Task) -> list[Model]:
        """Return every model of a task."""
        return [_to_model(row) for row in await self._rows(_OF_TASK, task=task)]

    async def by_name(self, name: str) -> Model | None:
        """Return the model of an id or alias."""
        rows = await self._rows(_BY_NAME, name=name)
        return _to_model(rows[0]) if rows else None

    async def price(self, model: str, version: int) -> Price | None:
        """Return one version of a model's price."""
        rows = await self._rows(_PRICE, model=model, version=version)
        return _to_price(rows[0]) if rows else None

    async def renew(self, announced: Announcement, ttl: dt.timedelta) -> dt.datetime | None:
        """Renew a lease; returns when it ends, None when there is no such model of that task."""
        rows = await self._rows(
            _RENEW,
            model=announced.model,
            task=announced.task,
            replica_id=announced.endpoint.replica_id,
            address=announced.endpoint.address,
            context_window=announced.context_window,
            max_output_tokens=announced.max_output_tokens,
            ttl=ttl,
        )
        return rows[0].expires_at if rows else None

    async def release(self, model: str, replica_id: str) -> None:
        """Delete a lease."""
        await self._rows(_RELEASE, model=model, replica_id=replica_id)

    async def forget_lapsed(self) -> None:
        """Delete leases that ended a while ago; since they ended nobody has been told of them."""
        await self._rows(_FORGET)

    async def living(self) -> dict[str, int]:
        """Return the number of living replicas of each model that has one."""
        return {row.model_id: row.replicas for row in await self._rows(_LIVING)}

    async def add(self, announced: Announcement, price: SeedPrice) -> None:
        """Add a model that only a replica knows, unless there is one of that id."""
        row = {
            "id": announced.model,
            "task": announced.task,
            "display_name": announced.model.rpartition("/")[2],
            "description": "",
            "owned_by": announced.model.partition("/")[0] if "/" in announced.model else "unknown",
            "context_window": announced.context_window,
            "max_output_tokens": announced.max_output_tokens,
            "tokens_per_minute": TOKENS_PER_MINUTE,
            "is_default": False,
            "in_catalogue": False,
        }
        async with self._engine.begin() as connection:
            await connection.execute(_SEED_LOCK)
            added = await connection.execute(insert(models).values(row).on_conflict_do_nothing().returning(models.c.id))
            if added.one_or_none() is not None:  # else the file was read meanwhile, and its price stands
                await _add_price(connection, announced.model, price)

    async def seed(self, catalogue: Catalogue) -> None:
        """Make the catalogue what its file says, in one transaction, one replica after the other."""
        async with self._engine.begin() as connection:
            await connection.execute(_SEED_LOCK)
            await connection.execute(sa.delete(aliases))
            await connection.execute(sa.update(models).values(in_catalogue=False, is_default=False))
            for model in catalogue.models:
                values = model.model_dump(exclude={"id", "aliases", "default", "price"})
                values |= {"is_default": model.default, "in_catalogue": True}
                put = insert(models).values(id=model.id, **values)
                await connection.execute(put.on_conflict_do_update(index_elements=[models.c.id], set_=values))
                for alias in model.aliases:
                    await connection.execute(insert(aliases).values(alias=alias, model_id=model.id))
                await _add_price(connection, model.id, model.price)


async def _add_price(connection: AsyncConnection, model: str, price: SeedPrice) -> None:
    """Add a version unless the newest one says the same."""
    newest = sa.select(prices).where(prices.c.model_id == model).order_by(prices.c.version.desc()).limit(1)
    row = (await connection.execute(newest)).one_or_none()
    wanted = Price(
        0 if row is None else row.version,
        price.input_micros_per_million_tokens,
        price.output_micros_per_million_tokens,
        price.micros_per_million_pixel_steps,
        price.cached_price,
        price.micros_per_million_audio_seconds,
    )
    if row is None or _to_price(row) != wanted:
        await connection.execute(
            insert(prices).values(
                model_id=model,
                version=wanted.version + 1,
                input_price=wanted.input_tokens,
                output_price=wanted.output_tokens,
                pixel_step_price=wanted.pixel_steps,
                cached_input_price=wanted.cached_input_tokens,
                audio_second_price=wanted.audio_seconds,
            )
        )


def _to_price(row: sa.Row[Any]) -> Price:
    cached = row.input_price if row.cached_input_price is None else row.cached_input_price
    return Price(row.version, row.input_price, row.output_price, row.pixel_step_price, cached, row.audio_second_price)


def _to_model(row: sa.Row[Any]) -> Model:
    return Model(
        id=row.id,
        task=Task(row.task),
        display_name=row.display_name,
        description=row.description,
        owned_by=row.owned_by,
        aliases=tuple(row.aliases),
        is_default=row.is_default,
        context_window=row.context_window,
        max_output_tokens=row.max_output_tokens,
        tokens_per_minute=row.tokens_per_minute,
        price=_to_price(row),
        fallbacks=tuple(row.fallbacks),
        endpoints=tuple(map(Endpoint, row.replica_ids or (), row.addresses or ())),
        created_at=row.created_at,
    )
