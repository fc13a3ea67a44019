"""The real Postgres: data survive every death, roles are kept apart."""

import asyncio
import contextlib
import itertools
import os
import signal
import stat

import asyncpg
import psutil
import pytest
from parley_dev import database, postgres, secrets
from parley_dev.config import WITH_SCHEMA
from parley_dev.supervisor import Spec, Supervised


def supervised(server: postgres.Postgres, home, said: list[str]) -> Supervised:
    async def ready():
        return await postgres.is_up(server.url)

    spec = Spec(
        "postgres",
        server.command(),
        home / "postgres.log",
        ready=ready,
        env=postgres.ENV,
        account=server.account,
        before_start=lambda: server.clear_the_way(said.append),
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
    )
    return Supervised(spec, lambda text, _style: said.append(text))


@pytest.fixture
def server(mesh):
    passwords = secrets.ensure(mesh)
    made = postgres.place(mesh.home, mesh.postgres_port, passwords.superuser)
    assert made.prepare()
    return made


@contextlib.asynccontextmanager
async def running(server, home, said=None):
    process = supervised(server, home, [] if said is None else said)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def test_data_survive_a_restart_and_a_kill_of_the_postmaster(server, home):
    async with running(server, home):
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        await connection.close()
    assert not server.prepare(), "the data folder was there"
    async with running(server, home) as process:
        connection = await asyncpg.connect(server.url)
        await connection.execute("INSERT INTO kept VALUES (2)")
        os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while process.restarts == 0:
                await asyncio.sleep(0.01)
            await process.until_ready()
        connection = await asyncpg.connect(server.url)
        assert [row["n"] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")] == [1, 2]
        await connection.close()


async def test_an_orphan_of_the_same_data_is_stopped_first(server, home):
    said: list[str] = []
    orphan = supervised(server, home, said)
    await orphan.start()
    process = psutil.Process(orphan.pid)
    await asyncio.to_thread(server.clear_the_way, said.append)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert "a Postgres from before still has the data; stopping it" in said
    await orphan.stop()


async def test_a_stale_lock_that_names_somebody_elses_process_is_removed(server, home):
    lock = server.data / "postmaster.pid"
    lock.write_text(f"{os.getppid()}\n{server.data}\n1\n1\n\n\n\n")
    if server.account:
        os.chown(lock, server.account.uid, server.account.gid)
    async with running(server, home):
        assert await postgres.is_up(server.url)


def test_no_folder_was_opened_and_the_data_are_private(server):
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        assert server.data.stat().st_uid != 0


async def test_each_role_is_refused_every_other_schema(server, home, mesh):
    passwords = secrets.ensure(mesh).roles
    async with running(server, home):
        await database.prepare(server.url, passwords)
        await database.prepare(server.url, passwords)  # again: nothing to do
        urls = database.urls(server.url, passwords)
        for service in WITH_SCHEMA:
            owner = await asyncpg.connect(urls[f"{service.schema}_owner"])
            await owner.execute(
                f"CREATE TABLE {service.schema}.thing (n int); INSERT INTO {service.schema}.thing VALUES (1)"
            )
            await owner.close()
        for role, other in itertools.product(passwords, WITH_SCHEMA):
            connection = await asyncpg.connect(urls[role])
            mine = role.rpartition("_")[0] == other.schema
            for statement in (
                f"SELECT * FROM {other.schema}.thing",
                f"INSERT INTO {other.schema}.thing VALUES (2)",
                f"UPDATE {other.schema}.thing SET n = 3",
                f"DELETE FROM {other.schema}.thing WHERE n = 9",
            ):
                if mine:
                    await connection.execute(statement)
                else:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(statement)
            await connection.close()
        for service in WITH_SCHEMA:
            app = await asyncpg.connect(urls[f"{service.schema}_app"])
            for statement in (
                f"CREATE TABLE {service.schema}.mine (n int)",
                f"DROP TABLE {service.schema}.thing",
                f"ALTER TABLE {service.schema}.thing ADD m int",
                f"TRUNCATE {service.schema}.thing",
                "CREATE TABLE public.mine (n int)",
                "CREATE SCHEMA mine",
                f"SET ROLE {service.schema}_owner",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await app.execute(statement)
            await app.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(urls["auth_app"].replace(passwords["auth_app"], "wrong"))


async def test_a_role_that_may_create_roles_is_enough(server, home, mesh):
    passwords = secrets.ensure(mesh).roles
    async with running(server, home):
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE ROLE ops LOGIN CREATEROLE CREATEDB PASSWORD 'ops-password'")
        await connection.close()
        url = f"postgresql://ops:ops-password@127.0.0.1:{server.port}/postgres"
        await database.prepare(url, passwords)
        await database.prepare(url, passwords)
        app = await asyncpg.connect(database.urls(url, passwords)["billing_app"])
        assert await app.fetchval("SELECT has_schema_privilege('billing', 'USAGE')")
        assert not await app.fetchval("SELECT has_schema_privilege('chat', 'USAGE')")
        await app.close()


def test_secrets_are_made_once_and_private(mesh):
    first = secrets.ensure(mesh)
    assert secrets.ensure(mesh) == first
    files = [path for path in mesh.secrets.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {path.name for path in (mesh.secrets / "services").iterdir()} == {
        "registry", "billing", "chat", "inference-llm", "inference-image", "operator"
    }  # fmt: skip
    assert (mesh.signing_keys / "signing-key.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----")
