"""Settings -> wiring -> serve."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

from parley_kit.db import create_engine, new_id
from parley_kit.server import Service, main, run

from parley_auth import upkeep
from parley_auth.access_tokens import AccessTokens, load_key
from parley_auth.accounts import Accounts
from parley_auth.passwords import Passwords
from parley_auth.repository import Repository
from parley_auth.rpc import servicers
from parley_auth.service_tokens import SecretFiles, ServiceTokens
from parley_auth.settings import Settings


def now() -> dt.datetime:
    """Return the time."""
    return dt.datetime.now(dt.UTC)
