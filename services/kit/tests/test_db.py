"""The engine against a real Postgres, and migrations of every service."""

import asyncio
import json
import os
import subprocess
import sys

import asyncpg
import pytest
import sqlalchemy as sa
from parley_kit.db import create_engine, fetch, is_unavailable, new_id
from parley_kit.testing import database


def test_ids_are_sorted_by_time():
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert {made.version for made in ids} == {7}


async def test_nobody_listening_is_unavailable():
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Exception) as raised:  # which one is what is asked
        async with engine.connect():
            pass
    assert is_unavailable(raised.value)


async def test_a_killed_connection_is_unavailable_and_the_next_one_works():
    async with database("parley_auth", "auth") as made:
        engine, admin = create_engine(made.app_url), create_engine(made.admin_url)
        async with engine.connect() as connection:
            pid = (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
            async with admin.begin() as other:
                await other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            with pytest.raises(sa.exc.DBAPIError) as raised:
                await connection.execute(sa.text("SELECT 1"))
        assert is_unavailable(raised.value)
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1
        await engine.dispose()
        await admin.dispose()


async def test_connections_that_were_closed_while_nobody_used_them_are_replaced():
    async with database("parley_auth", "auth") as made:
        engine, admin = create_engine(made.app_url, pool_size=5), create_engine(made.admin_url)
        connections = [await engine.connect() for _ in range(5)]
        drivers = [(await connection.get_raw_connection()).driver_connection for connection in connections]
        for connection in connections:
            await connection.close()
        async with admin.begin() as other:
            await other.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'auth_app'")
            )
        async with asyncio.timeout(20):  # the server ends them one by one
            while not all(driver.is_closed() for driver in drivers):
                await asyncio.sleep(0.01)
        for _ in range(5):
            async with engine.connect() as connection:
                assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1
        await engine.dispose()
        await admin.dispose()


async def test_a_wrong_statement_is_not_unavailable_and_its_parameters_are_hidden():
    async with database("parley_auth", "auth") as made:
        engine = create_engine(made.app_url)
        with pytest.raises(sa.exc.DBAPIError) as raised:
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT :word FROM nowhere"), {"word": "a secret"})
        assert not is_unavailable(raised.value)
        assert "a secret" not in str(raised.value)
        await engine.dispose()


async def test_the_drivers_way_gives_its_connections_back_whatever_happens():
    async with database("parley_auth", "auth") as made:
        engine, admin = create_engine(made.app_url, pool_size=1), create_engine(made.admin_url)
        pid = sa.text("SELECT pg_backend_pid() AS pid, :a + :b + :a AS sum").bindparams(
            sa.bindparam("a", type_=sa.Integer), sa.bindparam("b", type_=sa.Integer)
        )
        (first,) = await fetch(engine, pid, a=2, b=3)
        assert first["sum"] == 7
        with pytest.raises(asyncpg.UndefinedTableError) as raised:
            await fetch(engine, sa.text("SELECT FROM nowhere"))
        assert not is_unavailable(raised.value)
        assert (await fetch(engine, pid, a=2, b=3))[0]["pid"] == first["pid"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await fetch(engine, sa.text("SELECT pg_sleep(20)"))
        (second,) = await fetch(engine, pid, a=2, b=3)
        assert second["pid"] != first["pid"]  # what was cut off is not used again
        async with admin.begin() as other:
            sleeping = asyncio.create_task(fetch(engine, sa.text("SELECT pg_sleep(20)")))
            await asyncio.sleep(0.2)
            await other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": second["pid"]})
            with pytest.raises(Exception) as cut:  # which one is what is asked
                await sleeping
        assert is_unavailable(cut.value)
        assert (await fetch(engine, pid, a=2, b=3))[0]["sum"] == 7
        await engine.dispose()
        await admin.dispose()


async def test_migrating_twice_at_once_does_it_once():
    async with database("parley_auth", "auth") as made:
        admin = create_engine(made.admin_url)
        async with admin.begin() as connection:
            await connection.execute(sa.text("DROP SCHEMA auth CASCADE"))
            await connection.execute(sa.text("CREATE SCHEMA auth AUTHORIZATION auth_owner"))
        await admin.dispose()
        command = (sys.executable, "-m", "parley_auth", "migrate")
        env = os.environ | {"PARLEY_AUTH_MIGRATION_DATABASE_URL": made.owner_url}
        replicas = [await asyncio.create_subprocess_exec(*command, env=env, stdout=subprocess.DEVNULL) for _ in "123"]
        assert [await replica.wait() for replica in replicas] == [0, 0, 0]


LOGGING = """
import structlog, logging
from parley_kit import telemetry
telemetry.set_up("trial", "INFO")
try:
    raise ValueError("boom\\nDETAIL: Failing row contains (a secret).")
except ValueError:
    structlog.get_logger().exception("failed")
    logging.getLogger("library").warning("from a library")
structlog.get_logger().debug("too fine")
"""


def test_logs_are_json_lines_without_row_contents():
    ran = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True, env=os.environ)
    first, second = (json.loads(line) for line in ran.stdout.splitlines())
    assert (first["event"], first["level"], first["service"]) == ("failed", "error", "trial")
    assert "ValueError: boom" in first["exception"]
    assert (second["event"], second["logger"]) == ("from a library", "library")
    assert "a secret" not in ran.stdout
