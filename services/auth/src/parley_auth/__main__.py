"""Settings -> wiring -> serve."""

from __future__ import annotations

import datetime as dt
from functools import partial
from pathlib import Path

import httpx
from parley_kit.clients import open_channel
from parley_kit.db import create_engine, new_id
from parley_kit.periodic import Periodic
from parley_kit.server import Service, main

from parley_auth.access_tokens import AccessTokens
from parley_auth.accounts import Accounts
from parley_auth.admin import Admin
from parley_auth.api_keys import ApiKeys
from parley_auth.challenges import Challenges, Purpose
from parley_auth.clients import GrpcWelcome, user_data_clients
from parley_auth.email_addresses import EmailAddresses
from parley_auth.erasures import EVERY_SECONDS as ERASE_EVERY_SECONDS
from parley_auth.erasures import Erasures, Times
from parley_auth.exports import Exports
from parley_auth.federation import Federation
from parley_auth.guesses import Guesses
from parley_auth.guests import Guests
from parley_auth.id_tokens import IdTokens
from parley_auth.key_exchange import KeyExchange
from parley_auth.mail_queue import EVERY_SECONDS as MAIL_EVERY_SECONDS
from parley_auth.mail_queue import MailQueue
from parley_auth.mail_text import Writer
from parley_auth.mailing import Mailing
from parley_auth.mfa import MfaChallenges
from parley_auth.oidc_keys import IssuerKeys
from parley_auth.oidc_providers import load_providers
from parley_auth.passkeys import Passkeys
from parley_auth.password_resets import PasswordResets
from parley_auth.passwords import Passwords
from parley_auth.repository import Repository
from parley_auth.rotation import rotate_keys
from parley_auth.rpc import servicers
from parley_auth.sealing import Sealing, load_keys
from parley_auth.second_factors import SecondFactors
from parley_auth.service_tokens import OwnToken, SecretFiles, ServiceTokens
from parley_auth.sessions import Sessions
from parley_auth.settings import Settings
from parley_auth.signing_key_files import read_keys
from parley_auth.signing_keys import CannotSign, SigningKeys
from parley_auth.upkeep import EVERY_SECONDS, sweep
from parley_auth.webauthn_ceremonies import Ceremonies
from parley_auth.welcomes import EVERY_SECONDS as WELCOME_EVERY_SECONDS
from parley_auth.welcomes import Welcomes
from parley_auth.wrong_keys import WrongKeys

KEYS_EVERY_SECONDS = 5.0


def now() -> dt.datetime:
    """Return the time."""
    return dt.datetime.now(dt.UTC)


def signing_keys(settings: Settings, folder: Path) -> SigningKeys:
    """Read the keys of a folder; SystemExit when none of them can sign."""
    try:
        return SigningKeys(partial(read_keys, folder), clock=now, longest=settings.longest_token())
    except CannotSign as error:
        raise SystemExit(str(error)) from None


def erasure_times(settings: Settings) -> Times:
    """Return the spans of deleting accounts."""
    return Times(
        fresh=dt.timedelta(seconds=settings.fresh_seconds),
        look_again=dt.timedelta(seconds=settings.erasure_look_again_seconds),
        abandoned=dt.timedelta(days=settings.abandoned_days),
    )


def build() -> Service:
    """Wire the service."""
    settings = Settings()
    if settings.signing_keys_dir is None or settings.service_secrets_dir is None or settings.sealing_key_file is None:
        names = "PARLEY_AUTH_SIGNING_KEYS_DIR, PARLEY_AUTH_SERVICE_SECRETS_DIR and PARLEY_AUTH_SEALING_KEY_FILE"
        raise SystemExit(f"{names} must be set.")
    keys = signing_keys(settings, settings.signing_keys_dir)
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
        fresh=dt.timedelta(seconds=settings.fresh_seconds),
    )
    mailing = Mailing(repository, new_id=new_id, clock=now, limit=settings.mails_per_address)
    addresses = EmailAddresses(repository, sessions, mailing, clock=now)
    resets = PasswordResets(repository, passwords, mailing, clock=now)
    guests = Guests(repository, passwords, sessions, mailing, new_id=new_id)
    writer = Writer(sender=settings.mail_sender, app_url=settings.app_url)
    queue = MailQueue(repository, settings.mail(), writer, clock=now)
    mfa = MfaChallenges(repository, clock=now, lifetime=dt.timedelta(seconds=settings.mfa_seconds))
    accounts = Accounts(repository, passwords, sessions, guesses, mailing, mfa, new_id=new_id, clock=now)
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
        repository, sessions, mailing, key_exchange.forget, new_id=new_id, clock=now, most=settings.api_keys_per_user
    )
    admin = Admin(repository, new_id=new_id, clock=now)
    providers, web = load_providers(settings.oidc_providers_file), httpx.AsyncClient()
    issuer_keys = {
        name: IssuerKeys(provider.issuer, web, lifetime=settings.oidc_keys_seconds)
        for name, provider in providers.items()
    }
    nonce_lifetime = dt.timedelta(seconds=settings.oidc_nonce_seconds)
    nonces = Challenges(repository, Purpose.OIDC_NONCE, clock=now, lifetime=nonce_lifetime)
    id_tokens = IdTokens(providers, issuer_keys, clock=now)
    federation = Federation(repository, id_tokens, nonces, sessions, mfa, mailing, new_id=new_id)
    sealing = Sealing(load_keys(settings.sealing_key_file))
    second_factors = SecondFactors(
        repository, accounts, sessions, guesses, sealing, mailing, app_name=settings.app_name, clock=now
    )
    passkey_lifetime = dt.timedelta(seconds=settings.passkey_seconds)
    passkeys = Passkeys(
        repository,
        Ceremonies(rp_id=settings.passkey_rp_id, rp_name=settings.app_name, origins=settings.passkey_origins),
        Challenges(repository, Purpose.PASSKEY_REGISTRATION, clock=now, lifetime=passkey_lifetime),
        Challenges(repository, Purpose.PASSKEY_SIGN_IN, clock=now, lifetime=passkey_lifetime),
        accounts,
        sessions,
        mailing,
        issuers=id_tokens.issuers,
        new_id=new_id,
    )
    own = OwnToken(tokens, clock=now)
    storing = (settings.chat_address, settings.inference_image_address, settings.billing_address)
    channels = [open_channel(address, own) for address in storing]
    others = user_data_clients(*channels)
    erasures = Erasures(repository, accounts, sessions, others, erasure_times(settings), new_id=new_id, clock=now)
    welcomes = Welcomes(repository, GrpcWelcome(channels[-1]), clock=now)
    every = dt.timedelta(seconds=settings.export_seconds)
    exports = Exports(repository, sessions, others, clock=now, every=every, at_once=settings.exports_at_once)
    periodic = (
        Periodic("reading signing keys", keys.reload, every_seconds=KEYS_EVERY_SECONDS),
        Periodic("sending mails", queue.drain, every_seconds=MAIL_EVERY_SECONDS),
        Periodic("erasing", erasures.drive, every_seconds=ERASE_EVERY_SECONDS),
        Periodic("telling billing of proved addresses", welcomes.drive, every_seconds=WELCOME_EVERY_SECONDS),
        Periodic("removing abandoned accounts", erasures.remove_abandoned, every_seconds=EVERY_SECONDS),
        Periodic("sweeping", lambda: sweep(repository, now(), window), every_seconds=EVERY_SECONDS),
    )

    async def stop() -> None:
        for work in periodic:
            await work.stop()
        for channel in channels:
            await channel.close()
        passwords.close()
        await web.aclose()
        await engine.dispose()

    return Service(
        name="auth",
        settings=settings,
        servicers=servicers(
            accounts,
            sessions,
            tokens,
            service_tokens,
            api_keys,
            key_exchange,
            admin,
            addresses,
            resets,
            guests,
            federation,
            second_factors,
            passkeys,
            erasures,
            exports,
        ),
        verifier=tokens,
        on_start=[work.start for work in periodic],
        on_stop=[stop],
    )


if __name__ == "__main__":
    main("auth", build, Settings, package="parley_auth", commands={"rotate-keys": rotate_keys})
