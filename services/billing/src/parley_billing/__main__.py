"""Settings -> wiring -> serve."""

from __future__ import annotations

import datetime as dt
import functools

from parley_kit.clients import open_channel
from parley_kit.db import create_engine, new_id
from parley_kit.identity import RemoteJwksVerifier, ServiceTokenSource
from parley_kit.periodic import Periodic
from parley_kit.server import Service, main

from parley_billing.auditing import audit_and_tell
from parley_billing.clients import GrpcPrices, works_of
from parley_billing.expiry import sweep
from parley_billing.reconciling import reconcile
from parley_billing.repository import Repository
from parley_billing.rpc import servicers
from parley_billing.settings import Settings
from parley_billing.shop import build_shop
from parley_billing.upkeep import keep_up
from parley_billing.work_audit import WorkAuditor


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def build() -> Service:
    """Wire the service."""
    settings = Settings()
    auth = open_channel(settings.auth_address, None)
    tokens = ServiceTokenSource(auth, "billing", settings.service_secret())
    registry = open_channel(settings.registry_address, tokens)
    peers = [
        open_channel(address, tokens) if address else None
        for address in (settings.chat_address, settings.inference_image_address)
    ]
    engine = create_engine(settings.required_database_url(), pool_size=settings.database_pool_size)
    repository = Repository(engine)
    expiry = Periodic("expiring holds", lambda: sweep(repository), every_seconds=settings.sweep_seconds)
    audits = Periodic("auditing the ledger", lambda: audit_and_tell(repository), every_seconds=settings.audit_seconds)
    grace = dt.timedelta(seconds=settings.audit_grace_seconds)
    work = WorkAuditor(repository, works_of(*peers), _now, grace)
    comparing = Periodic("comparing holds with work", work.audit_and_tell, every_seconds=settings.audit_seconds)
    upkeep = Periodic(
        "keeping allowances and debts", lambda: keep_up(repository), every_seconds=settings.upkeep_seconds
    )
    shop = build_shop(settings, _now)
    jobs = [expiry, audits, comparing, upkeep]
    if checkouts := shop.checkouts:
        ask = functools.partial(reconcile, repository, checkouts, _now)
        jobs.append(Periodic("asking about open purchases", ask, every_seconds=settings.reconcile_seconds))
    return Service(
        name="billing",
        settings=settings,
        servicers=servicers(
            repository,
            GrpcPrices(registry),
            welcome_grant=settings.opening_grant(),
            welcome_whole=settings.welcome_grant_micros,
            new_id=new_id,
            now=_now,
            shop=shop,
            work=work,
        ),
        verifier=RemoteJwksVerifier(auth),
        on_start=[job.start for job in jobs],
        on_stop=[
            *(job.stop for job in jobs),
            engine.dispose,
            *(peer.close for peer in peers if peer),
            registry.close,
            auth.close,
        ],
    )


if __name__ == "__main__":
    main("billing", build, Settings, package="parley_billing")
