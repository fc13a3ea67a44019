"""A whole mesh on this machine, as `make run` and the tests start it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from parley_dev import database, envoy, health, leftovers, ports, postgres, secrets
from parley_dev.config import ROOT, SERVICES, CannotRunError, Mesh, ServiceInfo
from parley_dev.logs import Log
from parley_dev.screen import Screen
from parley_dev.supervisor import Spec, Supervised, run_to_end

_FOLLOW_SECONDS = 0.5
_EDGE_SECONDS = 30.0
STOP_ORDER = (
    ("envoy",),
    ("chat",),
    ("inference-llm", "inference-image"),
    ("billing",),
    ("registry",),
    ("auth",),
    ("postgres",),
)


class RunningMesh:
    """Every process of one mesh: `async with RunningMesh(mesh) as running:` starts, waits for SERVING, and stops.

    Must be entered in the main thread: the kernel ties the processes to the thread that starts them.
    """

    def __init__(self, mesh: Mesh, screen: Screen | None = None) -> None:
        self.mesh = mesh
        self.screen = screen or Screen(quiet=True)
        self.began = time.monotonic()
        self._all: dict[str, Supervised] = {}
        self._held = contextlib.ExitStack()
        self._background: list[asyncio.Task[None]] = []
        self._urls: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def names(self) -> list[str]:
        """Names of the supervised processes."""
        return list(self._all)

    def pid(self, name: str) -> int | None:
        """Id of a process now; None while it is between two."""
        return self._all[name].pid

    def restart_count(self, name: str) -> int:
        """How often a process was restarted."""
        return self._all[name].restarts

    def start_seconds(self, name: str) -> float | None:
        """How long the first start of a process took until it was ready."""
        return self._all[name].start_took

    def database_url(self, role: str) -> str:
        """Return the URL of a role, e.g. `billing_app`."""
        return self._urls[role]

    async def until_ready(self, *names: str) -> None:
        """Return when the named processes (all without names) are ready, restarts included."""
        await asyncio.gather(*(self._all[name].until_ready() for name in names or self._all))

    async def start(self) -> None:
        """Bring everything up; CannotRunError is the one cause when that fails. Call stop() in any case."""
        mesh, say = self.mesh, self.screen.say
        self._background.append(asyncio.create_task(self.screen.live()))
        self._held.enter_context(leftovers.only_mesh_of(mesh.home))
        await asyncio.to_thread(leftovers.clear, mesh.home, say)
        passwords = secrets.ensure(mesh)
        server = None
        if not mesh.database_url:
            server = postgres.place(mesh.home, mesh.postgres_port, passwords.superuser, say)
            await asyncio.to_thread(server.clear_the_way, say)
        ports.check(mesh)
        self._background.append(asyncio.create_task(self._follow_logs()))
        if server:
            await self._start_postgres(server)
        await self._prepare_database(server.url if server else mesh.database_url, passwords.roles)
        configuration = envoy.write_configuration(mesh)
        light = [service for service in SERVICES if not service.is_engine]
        await self._start([self._envoy(configuration), *map(self._service, light)])
        say(f"everything but the engines is SERVING {self._passed()}", "good")
        if not _has_byte_code("vllm"):
            say("the engines' first start is slow: Python compiles their byte-code, about half a minute, once")
        await self._start([self._service(service) for service in SERVICES if service.is_engine])
        with self.screen.waiting("Envoy to see every service healthy"):
            await self._edge_is_healthy()
        say(f"everything is SERVING {self._passed()}", "good")

    async def stop(self) -> None:
        """Stop everything in order; nothing of the mesh runs afterwards."""
        if self._all:
            self.screen.say(
                "stopping: " + ", ".join(name for names in STOP_ORDER for name in names if name in self._all)
            )
        for names in STOP_ORDER:
            await asyncio.gather(*(self._all[name].stop() for name in names if name in self._all))
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._all:
            await asyncio.to_thread(leftovers.clear, self.mesh.home, self.screen.say)
            self.screen.say("stopped; no process is left")
            self._all.clear()
        self._held.close()

    def kill(self) -> None:
        """Kill every process at once; stop() still has to be awaited."""
        for supervised in self._all.values():
            supervised.kill()

    async def _start_postgres(self, server: postgres.Postgres) -> None:
        if await asyncio.to_thread(server.prepare):
            self.screen.say(f"made an empty Postgres in {server.data}")
        spec = Spec(
            name="postgres",
            command=server.command(),
            ready=partial(postgres.is_up, server.url),
            log=self.mesh.logs / "postgres.log",
            env=postgres.ENV,
            account=server.account,
            before_start=partial(server.clear_the_way, self.screen.say),
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            death_signal=signal.SIGINT,
            stop_seconds=30.0,
            ready_word="up",
        )
        await self._start([spec])

    async def _prepare_database(self, admin_url: str, passwords: dict[str, str]) -> None:
        self._urls = database.urls(admin_url, passwords)
        await database.prepare(admin_url, passwords)
        behind = await database.behind(self._urls)
        if not behind:
            return
        self.screen.say("migrating " + ", ".join(service.name for service in behind))
        owners = {f"PARLEY_MIGRATE_{service.schema}": self._urls[f"{service.schema}_owner"] for service in behind}
        await self._run_once("migrate", [sys.executable, "-m", "parley_dev.migrate"], owners)

    def _service(self, service: ServiceInfo) -> Spec:
        address = self.mesh.address(service.name)
        return Spec(
            name=service.name,
            command=[sys.executable, "-m", service.package],
            ready=partial(health.is_serving, address),
            log=self.mesh.logs / f"{service.name}.log",
            env=self._env() | self.mesh.service_env(service, self._urls),
            cwd=self.mesh.run,
            start_seconds=None if service.is_engine else 60.0,
        )

    def _envoy(self, configuration: Path) -> Spec:
        return Spec(
            name="envoy",
            command=envoy.command(configuration),
            ready=partial(health.answers_ok, f"127.0.0.1:{self.mesh.admin_port}", "/ready"),
            log=self.mesh.logs / "envoy.log",
            env=self._env(),
            cwd=self.mesh.run,
            ready_word="LIVE",
        )

    def _env(self) -> dict[str, str]:
        """Return what every process of ours inherits."""
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        # SPT_NOENV keeps setproctitle (vLLM uses it) from writing over the mark.
        return (
            env
            | {leftovers.MARK: str(self.mesh.home), "SPT_NOENV": "1", "PYTHONUNBUFFERED": "1"}
            | dict(self.mesh.extra_env)
        )

    async def _start(self, specs: Iterable[Spec]) -> None:
        new = [Supervised(spec, self.screen.say) for spec in specs]
        self._all |= {supervised.spec.name: supervised for supervised in new}
        with contextlib.ExitStack() as stack:
            for supervised in new:
                stack.enter_context(self.screen.waiting(supervised.spec.name, supervised.log.doing))
            tasks = [asyncio.create_task(supervised.start()) for supervised in new]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def _run_once(self, name: str, command: list[str], env: dict[str, str] | None = None) -> None:
        """Run a step of the first start as a process of its own, whose memory is given back."""
        spec = Spec(name, command, self.mesh.logs / f"{name}.log", env=self._env() | (env or {}), cwd=ROOT)
        with self.screen.waiting(name, Log(spec.log).doing):
            await run_to_end(spec)

    async def _edge_is_healthy(self) -> None:
        deadline = time.monotonic() + _EDGE_SECONDS
        edge = self.mesh.edge_url.removeprefix("http://")
        while not await health.answers_ok(edge, "/healthz"):
            if time.monotonic() > deadline:
                raise CannotRunError(
                    f"Every service is SERVING, but {self.mesh.edge_url}/healthz does not say so. See {self.mesh.logs}/envoy.log."
                )
            await asyncio.sleep(0.05)

    async def _follow_logs(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_SECONDS)
            for name, supervised in list(self._all.items()):
                for line in supervised.log.important():
                    self.screen.say(f"[{name}] {line}", "bad")

    def _passed(self) -> str:
        return f"after {time.monotonic() - self.began:.1f} s"


def _has_byte_code(package: str) -> bool:
    """Whether a package was imported before. Compiling everything while installing would take 80 s, most of it unused."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None and (Path(spec.origin).parent / "__pycache__").exists()
