"""Settings -> wiring -> serve."""

from __future__ import annotations

import datetime as dt
from functools import partial

from parley_kit.db import create_engine, new_id
from parley_kit.periodic import Periodic
from parley_kit.server import Service, main

from parley_auth.access_tokens import AccessTokens
from parley_auth.accounts import Accounts
from parley_auth.admin import Admin
from parley_auth.api_keys import ApiKeys
from parley_auth.email_addresses import EmailAddresses
from parley_auth.guesses import Guesses
from parley_auth.guests import Guests
from parley_auth.key_exchange import KeyExchange
from parley_auth.mail_queue import EVERY_SECONDS as MAIL_EVERY_SECONDS
from parley_auth.mail_queue import MailQueue
from parley_auth.mail_text import Writer
from parley_auth.mailing import Mailing
from parley_auth.password_resets import PasswordResets
from parley_auth.passwords import Passwords
from parley_auth.repository import Repository
from parley_auth.rotation import rotate_keys
from parley_auth.rpc import servicers
from parley_auth.service_tokens import SecretFiles, ServiceTokens
from parley_auth.sessions import Sessions
from parley_auth.settings import Settings
from parley_auth.signing_key_files import read_keys
from parley_auth.signing_keys import CannotSign, SigningKeys
from parley_auth.upkeep import EVERY_SECONDS, sweep
from parley_auth.wrong_keys import WrongKeys

KEYS_EVERY_SECONDS = 5.0


def now() -> dt.datetime:
    """Return the time."""
    return dt.datetime.now(dt.UTC)


def build() -> Service:
    """Wire the service."""
    settings = Settings()
    if settings.signing_keys_dir is None or settings.service_secrets_dir is None:
        raise SystemExit("PARLEY_AUTH_SIGNING_KEYS_DIR and PARLEY_AUTH_SERVICE_SECRETS_DIR must be set.")
    try:
        keys = SigningKeys(partial(read_keys, settings.signing_keys_dir), clock=now, longest=settings.longest_token())
    except CannotSign as error:
        raise SystemExit(str(error)) from None
    reloading = Periodic("reading signing keys", keys.reload, every_seconds=KEYS_EVERY_SECONDS)
    tokens = AccessTokens(keys, dt.timedelta(seconds=settings.access_token_seconds))
    engine = create_engine(settings.required_database_url(), pool_size=settings.database_pool_size)
    repository = Repository(engine)
    passwords = Passwords(threads=settings.hash_threads, queue=settings.hash_queue)
    window = dt.timedelta(seconds=settings.password_window_seconds)
    guesses = Guesses(repository, clock=now, limit=settings.password_guesses, window=window)
    sessions = Sessions(
        repository,
        tokens,
        new_id=new_id,
        clock=now,
        refresh_lifetime=dt.timedelta(days=settings.refresh_token_days),
        grace=dt.timedelta(seconds=settings.refresh_grace_seconds),
    )
    mailing = Mailing(repository, new_id=new_id, clock=now, limit=settings.mails_per_address)
    accounts = Accounts(repository, passwords, sessions, guesses, mailing, new_id=new_id, clock=now)
    addresses = EmailAddresses(repository, sessions, mailing, clock=now)
    resets = PasswordResets(repository, passwords, mailing, new_id=new_id, clock=now)
    guests = Guests(repository, passwords, sessions, mailing, new_id=new_id)
    writer = Writer(sender=settings.mail_sender, app_url=settings.app_url)
    queue = MailQueue(repository, settings.mail(), writer, clock=now)
    mails = Periodic("sending mails", queue.drain, every_seconds=MAIL_EVERY_SECONDS)
    service_tokens = ServiceTokens(SecretFiles(settings.service_secrets_dir), tokens, clock=now)
    key_exchange = KeyExchange(
        repository,
        tokens,
        WrongKeys(clock=now, limit=settings.wrong_keys),
        clock=now,
        fresh=dt.timedelta(seconds=settings.key_fresh_seconds),
        lifetime=dt.timedelta(seconds=settings.key_token_seconds),
    )
    api_keys = ApiKeys(
        repository, sessions, key_exchange.forget, new_id=new_id, clock=now, most=settings.api_keys_per_user
    )
    admin = Admin(repository, new_id=new_id, clock=now)
    sweeper = Periodic("sweeping", lambda: sweep(repository, now(), window), every_seconds=EVERY_SECONDS)

    async def stop() -> None:
        await reloading.stop()
        await sweeper.stop()
        await mails.stop()
        passwords.close()
        await engine.dispose()

    return Service(
        name="auth",
        settings=settings,
        servicers=servicers(
            accounts, sessions, tokens, service_tokens, api_keys, key_exchange, admin, addresses, resets, guests
        ),
        verifier=tokens,
        on_start=[reloading.start, sweeper.start, mails.start],
        on_stop=[stop],
    )


if __name__ == "__main__":
    main("auth", build, Settings, package="parley_auth", commands={"rotate-keys": rotate_keys})
