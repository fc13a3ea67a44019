"""Settings -> wiring -> serve."""

from __future__ import annotations

import datetime as dt

from parley_kit.clients import open_channel
from parley_kit.db import create_engine, new_id
from parley_kit.identity import RemoteJwksVerifier, ServiceTokenSource
from parley_kit.periodic import Periodic
from parley_kit.server import Service, main

from parley_billing.auditing import audit_and_tell
from parley_billing.clients import GrpcPrices
from parley_billing.expiry import sweep
from parley_billing.repository import Repository
from parley_billing.rpc import servicers
from parley_billing.settings import Settings


def build() -> Service:
    """Wire the service."""
    settings = Settings()
    auth = open_channel(settings.auth_address, None)
    tokens = ServiceTokenSource(auth, "billing", settings.service_secret())
    registry = open_channel(settings.registry_address, tokens)
    engine = create_engine(settings.required_database_url(), pool_size=settings.database_pool_size)
    repository = Repository(engine)
    expiry = Periodic("expiring holds", lambda: sweep(repository), every_seconds=settings.sweep_seconds)
    audits = Periodic("auditing the ledger", lambda: audit_and_tell(repository), every_seconds=settings.audit_seconds)
    return Service(
        name="billing",
        settings=settings,
        servicers=servicers(
            repository,
            GrpcPrices(registry),
            welcome_grant=settings.welcome_grant_micros,
            new_id=new_id,
            now=lambda: dt.datetime.now(dt.UTC),
        ),
        verifier=RemoteJwksVerifier(auth),
        on_start=[expiry.start, audits.start],
        on_stop=[expiry.stop, audits.stop, engine.dispose, registry.close, auth.close],
    )


if __name__ == "__main__":
    main("billing", build, Settings, package="parley_billing")
