"""The database `parley`: one schema per service, one role that owns it, one role that may only read and write its rows."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from parley_dev.config import ROOT, WITH_SCHEMA, CannotRunError, ServiceInfo

DATABASE = "parley"
_MINIMUM = 15  # of Postgres
_LOCK = 0x7061726C  # advisory: two meshes on one server prepare one after the other
_REVISION = re.compile(r"^(down_)?revision\b[^=]*=\s*[\"']([^\"']+)", re.MULTILINE)


def urls(admin_url: str, passwords: Mapping[str, str], database: str = DATABASE) -> dict[str, str]:
    """Return the URL of every role, on the server of `admin_url`."""
    server = urlsplit(admin_url)
    host = server.netloc.rpartition("@")[2]
    return {
        role: urlunsplit((server.scheme, f"{role}:{quote(password, safe='')}@{host}", f"/{database}", server.query, ""))
        for role, password in passwords.items()
    }


async def prepare(admin_url: str, passwords: Mapping[str, str], database: str = DATABASE) -> None:
    """Create whatever is missing of database, roles, schemas and rights; changes nothing that is right already.

    `admin_url` is a superuser, or a role that may create roles and databases. Passwords are set anew each time, as
    verifiers computed here, so that none reaches the server's log.
    """
    try:
        server = await asyncpg.connect(admin_url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        where = urlsplit(admin_url).netloc.rpartition("@")[2]
        raise CannotRunError(f"Postgres at {where} cannot be used: {error}") from error
    try:
        if server.get_server_version().major < _MINIMUM:
            raise CannotRunError(
                f"Postgres {_MINIMUM} or newer is needed; this is {server.get_server_version().major}."
            )
        await server.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await _roles(server, passwords)
        if not await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await server.execute(f'CREATE DATABASE "{database}" TEMPLATE template0 ENCODING UTF8')
        parts = urlsplit(admin_url)
        inside = await asyncpg.connect(urlunsplit((*parts[:2], f"/{database}", parts.query, "")), timeout=10)
        try:
            await inside.execute(_rights(database))
        finally:
            await inside.close()
    except asyncpg.InsufficientPrivilegeError as error:
        raise CannotRunError(f"The role in DATABASE_URL may not do what is needed: {error}") from error
    finally:
        await server.close()


async def _roles(server: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    there = {row["rolname"] for row in await server.fetch("SELECT rolname FROM pg_roles")}
    is_superuser = await server.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    for role, password in passwords.items():
        if role not in there:
            await server.execute(f"CREATE ROLE {role} LOGIN NOINHERIT")
            if role.endswith("_owner") and not is_superuser:  # else it cannot make a schema for that role
                await server.execute(f"GRANT {role} TO current_user")
        await server.execute(f"ALTER ROLE {role} PASSWORD '{scram_verifier(password)}'")


def _rights(database: str) -> str:
    statements = [
        f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC',
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    ]
    for service in WITH_SCHEMA:
        schema, owner, app = service.schema, f"{service.schema}_owner", f"{service.schema}_app"
        given = f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT"
        statements += [
            f'GRANT CONNECT ON DATABASE "{database}" TO {owner}, {app}',
            f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {owner}",
            f"GRANT USAGE ON SCHEMA {schema} TO {app}",
            f"{given} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
            f"{given} USAGE, SELECT ON SEQUENCES TO {app}",
        ]
    return ";\n".join(statements)


def scram_verifier(password: str) -> str:
    """Return what Postgres stores for a password (RFC 5803, SCRAM-SHA-256, 4096 rounds)."""
    salt, rounds = os.urandom(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, client, server)]
    return f"SCRAM-SHA-256${rounds}:{text[0]}${text[1]}:{text[2]}"


async def behind(owner_urls: Mapping[str, str]) -> list[ServiceInfo]:
    """Return the services whose schema is not at their newest migration. Asks Postgres; imports no Alembic."""
    found = []
    for service in WITH_SCHEMA:
        connection = await asyncpg.connect(owner_urls[f"{service.schema}_owner"], timeout=10)
        try:
            current = await connection.fetch(f"SELECT version_num FROM {service.schema}.alembic_version")  # noqa: S608 - a name of ours
        except asyncpg.UndefinedTableError:
            current = []
        finally:
            await connection.close()
        if {row["version_num"] for row in current} != heads(service):
            found.append(service)
    return found


def heads(service: ServiceInfo) -> set[str]:
    """Return the newest revisions among a service's migration files."""
    found: dict[str, set[str]] = {"": set(), "down_": set()}
    folder: Path = ROOT / "services" / service.name / "migrations" / "versions"
    for file in folder.glob("*.py"):
        for down, revision in _REVISION.findall(file.read_text()):
            found[down].add(revision)
    return found[""] - found["down_"]
