"""The use cases of the registry."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import replace

from parley_kit.errors import NotFound

from parley_registry import metrics
from parley_registry.errors import CannotServe, ModelNotFound
from parley_registry.model import DEFAULT, Announcement, Model, Price, Task, choose_default
from parley_registry.repository import Repository
from parley_registry.seed import AnnouncedPrices


class Catalog:
    """Names to models, prices and living replicas."""

    def __init__(self, repository: Repository, announced_prices: AnnouncedPrices) -> None:
        self._repository = repository
        self._announced_prices = announced_prices

    async def list(self) -> list[Model]:
        """Return the models that users see."""
        return await self._repository.listed()

    async def find(self, name: str) -> Model:
        """Return a model by id or alias, whatever its task."""
        model = await self._default(Task.CHAT) if name == DEFAULT else await self._repository.by_name(name)
        if model is None:
            raise ModelNotFound(name)
        return model

    async def resolve(self, name: str, task: Task) -> Model:
        """Return the model that a request means, its replicas in random order."""
        if name in {"", DEFAULT}:
            model = await self._default(task)
        else:
            model = await self._repository.by_name(name)
        if model is None or model.task is not task:
            raise ModelNotFound(name)
        return replace(model, endpoints=tuple(random.sample(model.endpoints, len(model.endpoints))))

    async def price(self, model: str, version: int) -> Price:
        """Return one version of a price."""
        price = await self._repository.price(model, version)
        if price is None:
            raise NotFound("price")
        return price

    async def renew(self, announced: Announcement, ttl: dt.timedelta) -> dt.datetime:
        """Take or renew a lease; a model that the catalogue lacks is added. Returns when the lease ends."""
        ends = await self._repository.renew(announced, ttl)
        if ends is None:
            await self._check_name(announced)
            await self._repository.add(announced, getattr(self._announced_prices, announced.task))
            ends = await self._repository.renew(announced, ttl)
        if ends is None:
            raise CannotServe(announced.model, "another replica has just announced it for another task")
        return ends

    async def release(self, model: str, replica_id: str) -> None:
        """Give a lease back."""
        await self._repository.release(model, replica_id)

    async def sweep(self) -> None:
        """Forget lapsed leases, and measure the living ones."""
        await self._repository.forget_lapsed()
        metrics.REPLICAS.clear()
        for model, count in (await self._repository.living()).items():
            metrics.REPLICAS.labels(model).set(count)

    async def _default(self, task: Task) -> Model | None:
        return choose_default(await self._repository.of_task(task))

    async def _check_name(self, announced: Announcement) -> None:
        if announced.model == DEFAULT:
            raise CannotServe(announced.model, "it means the default model of a task")
        taken = await self._repository.by_name(announced.model)
        if taken is None:
            return
        if taken.id != announced.model:
            raise CannotServe(announced.model, f"it is an alias of {taken.id}")
        if taken.task is not announced.task:
            raise CannotServe(announced.model, f"the catalogue has it for {taken.task}")
