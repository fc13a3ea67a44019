"""Auth's own refusals.

ParleyError
├── AccountDisabled       403  told to whoever has proved to be its owner
├── InvalidApiKey         401  unknown, expired or revoked: never says which
├── InvalidCredentials    401  never says which of the two was wrong
├── InvalidRefreshToken   401  unknown, expired, revoked or used before: never says which
├── SessionEnded          401  the access token is good, but its device was signed out
├── TooManyApiKeys        409  of one account
├── TooManyGuesses        429  of the password of one e-mail
├── TooManyMails          429  to one address
└── TooManyWrongKeys      429  API keys that do not hold, from one address
"""

from __future__ import annotations

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import ParleyError


class AccountDisabled(ParleyError):
    """An operator has disabled the account."""

    reason = ErrorReason.ERROR_REASON_PERMISSION_DENIED

    def __init__(self) -> None:
        super().__init__("This account is disabled; ask support.")


class InvalidApiKey(ParleyError):
    """The key lets nobody in."""

    reason = ErrorReason.ERROR_REASON_UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__("The API key is unknown, expired or revoked")


class InvalidCredentials(ParleyError):
    """E-mail and password do not match."""

    reason = ErrorReason.ERROR_REASON_INVALID_CREDENTIALS

    def __init__(self) -> None:
        super().__init__("E-mail and password do not match an account.")


class InvalidRefreshToken(ParleyError):
    """The token earns no successor."""

    reason = ErrorReason.ERROR_REASON_INVALID_REFRESH_TOKEN

    def __init__(self) -> None:
        super().__init__("The refresh token is unknown, expired, revoked or was used before; sign in again.")


class SessionEnded(ParleyError):
    """The session of the access token is over."""

    reason = ErrorReason.ERROR_REASON_UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__("The session of this access token has ended; sign in again.")


class TooManyGuesses(ParleyError):
    """Too many wrong passwords for one e-mail."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "Too many wrong passwords for this e-mail: wait as long as retry-after says. Devices that are signed in stay so.",
            retry_after=retry_after,
        )


class TooManyApiKeys(ParleyError):
    """The account has as many keys as it may."""

    reason = ErrorReason.ERROR_REASON_FAILED_PRECONDITION

    def __init__(self, most: int) -> None:
        super().__init__(f"An account has at most {most} API keys; revoke one that is not needed any more.")


class TooManyWrongKeys(ParleyError):
    """Too many keys that do not hold from one address."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many wrong API keys from this address.", retry_after=retry_after)


class TooManyMails(ParleyError):
    """One address was written to often enough."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "This address was mailed several times lately: look there, or wait as long as retry-after says.",
            retry_after=retry_after,
        )
