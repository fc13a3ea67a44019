"""The life of one replica: what runs beside the calls, from start to stop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

import structlog
from parley_kit.hub import UnusableModel
from parley_kit.lease import RegistryLease

from parley_inference_image import metrics
from parley_inference_image.engine import Engine
from parley_inference_image.engine_thread import EngineThread
from parley_inference_image.repository import Repository
from parley_inference_image.upkeep import Upkeep
from parley_inference_image.watch import Watch
from parley_inference_image.worker import Worker

_log = structlog.get_logger()
_STOP_SECONDS = 5


class Replica:
    """Loads the engine while calls are already served, then works, until it is stopped."""

    def __init__(
        self,
        *,
        model: str,
        load: Callable[[], Engine],
        engine_thread: EngineThread,
        repository: Repository,
        watch: Watch,
        upkeep: Upkeep,
        worker: Worker,
        lease: RegistryLease,
        set_ready: Callable[[bool], None],
        fail: Callable[[], None],
    ) -> None:
        self._model = model
        self._load = load
        self._engine_thread = engine_thread
        self._repository = repository
        self._background = (watch.run, upkeep.run)
        self._worker = worker
        self._lease = lease
        self._set_ready = set_ready
        self._fail = fail
        self._tasks: list[asyncio.Task[None]] = []
        self._life: asyncio.Task[None] | None = None
        self._working = False

    async def start(self) -> None:
        """Start everything; returns at once."""
        self._tasks = [asyncio.create_task(run()) for run in self._background]
        self._life = asyncio.create_task(self._live())

    async def drain(self) -> None:
        """Give the running job back after its step and withdraw from the registry, while running calls go on."""
        self._worker.stop()
        await self._lease.release()

    async def stop(self) -> None:
        """Stop everything."""
        if self._life is not None:
            if self._working:  # else it is still loading
                await asyncio.wait([self._life], timeout=_STOP_SECONDS)
            self._life.cancel()
        for task in self._tasks:
            task.cancel()

    async def _live(self) -> None:
        try:
            engine = await self._engine_thread.run(self._load_engine)
            await self._remember_size(engine)
            self._working = True
            await self._lease.keep(lambda: self._set_ready(True))
            await self._worker.run(engine)
        except UnusableModel as error:
            _log.error("the model cannot be used", why=str(error))
        except Exception:  # noqa: BLE001 - whatever it is, the supervisor's next process is the remedy
            _log.exception("this replica cannot draw")
        else:
            return
        self._set_ready(False)
        self._fail()

    def _load_engine(self) -> Engine:
        began = time.perf_counter()
        gc.disable()  # millions of new objects and no garbage: importing is a quarter faster without
        try:
            engine = self._load()
        finally:
            gc.enable()
        seconds = time.perf_counter() - began
        metrics.ENGINE_LOAD_SECONDS.set(seconds)
        _log.info("model loaded", model=self._model, seconds=round(seconds, 1), size=engine.size)
        return engine

    async def _remember_size(self, engine: Engine) -> None:
        while True:
            try:
                await self._repository.remember_size(self._model, *engine.size)
            except Exception as error:  # noqa: BLE001 - the database may come up after us
                _log.warning("waiting for the database", error=type(error).__name__)
                await asyncio.sleep(1)
            else:
                return
