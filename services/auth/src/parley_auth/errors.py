"""Auth's own refusals.

ParleyError
├── EmailTaken            409
├── InvalidCredentials    401  never says which of the two was wrong
├── InvalidRefreshToken   401  unknown, expired, revoked or used before: never says which
├── SessionEnded          401  the access token is good, but its device was signed out
└── TooManyGuesses        429  of the password of one e-mail
"""

from __future__ import annotations

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import ParleyError


class EmailTaken(ParleyError):
    """The address has an account."""

    reason = ErrorReason.ERROR_REASON_EMAIL_TAKEN

    def __init__(self) -> None:
        super().__init__("An account with this e-mail exists already; sign in instead.")


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
