"""Settings -> wiring -> serve."""

from __future__ import annotations

from parley_kit.clients import open_channel
from parley_kit.db import create_engine
from parley_kit.identity import RemoteJwksVerifier
from parley_kit.periodic import Periodic
from parley_kit.server import Service, main

from parley_registry import seed
from parley_registry.catalog import Catalog
from parley_registry.repository import Repository
from parley_registry.rpc import servicers
from parley_registry.settings import Settings


def build() -> Service:
    """Wire the service."""
    settings = Settings()
    catalogue = seed.read(settings.catalogue_file)
    auth = open_channel(settings.auth_address, None)
    engine = create_engine(settings.required_database_url(), pool_size=settings.database_pool_size)
    repository = Repository(engine)
    catalog = Catalog(repository, catalogue.announced_prices)
    sweeping = Periodic("sweeping leases", catalog.sweep, every_seconds=settings.sweep_seconds)

    async def write_catalogue() -> None:
        await repository.seed(catalogue)

    return Service(
        name="registry",
        settings=settings,
        servicers=servicers(catalog),
        verifier=RemoteJwksVerifier(auth),
        on_start=[write_catalogue, sweeping.start],
        on_stop=[sweeping.stop, engine.dispose, auth.close],
    )


if __name__ == "__main__":
    main("registry", build, Settings, package="parley_registry")
