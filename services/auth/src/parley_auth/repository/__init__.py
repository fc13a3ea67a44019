"""All SQL of auth. Every method is one transaction, nearly always of one statement."""

from __future__ import annotations

from parley_auth.repository.accounts import AccountRepository
from parley_auth.repository.admin import AdminRepository
from parley_auth.repository.api_keys import ApiKeyRepository
from parley_auth.repository.challenges import ChallengeRepository
from parley_auth.repository.erasures import ErasureRepository
from parley_auth.repository.exports import ExportRepository
from parley_auth.repository.freshness import FreshnessRepository
from parley_auth.repository.guesses import GuessRepository
from parley_auth.repository.identities import IdentityRepository
from parley_auth.repository.mails import MailRepository
from parley_auth.repository.passkeys import PasskeyRepository
from parley_auth.repository.second_factors import SecondFactorRepository
from parley_auth.repository.sessions import SessionRepository
from parley_auth.repository.upkeep import UpkeepRepository
from parley_auth.repository.welcomes import WelcomeRepository


class Repository(
    AccountRepository,
    SessionRepository,
    FreshnessRepository,
    GuessRepository,
    MailRepository,
    ApiKeyRepository,
    AdminRepository,
    ChallengeRepository,
    IdentityRepository,
    SecondFactorRepository,
    PasskeyRepository,
    ErasureRepository,
    ExportRepository,
    WelcomeRepository,
    UpkeepRepository,
):
    """The stores of the rules, in Postgres."""
