"""Auth's own refusals.

ParleyError
├── AccountDisabled       403  told to whoever has proved to be its owner
├── ExportedJustNow       429
├── InvalidApiKey         401  unknown, expired or revoked: never says which
├── EmailNotOurs          409  it has an account, but nobody has verified it here
├── IdentityTaken         409
├── InvalidIdToken        401  says which check failed: its holder can read it
├── InvalidCredentials    401  never says which of the two was wrong
├── InvalidRefreshToken   401  unknown, expired, revoked or used before: never says which
├── ReauthenticationRequired  403  the session is too old for this change
├── SessionEnded          401  the access token is good, but its device was signed out
├── TooManyApiKeys        409  of one account
├── InvalidCode           401  a second factor's, at a sign-in: wrong, or used before
├── InvalidPasskey        401  never says why
├── InvalidMfaToken       401  expired, used, or its first factor is no more
├── TooManyCodes          429  of one account's second factor
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


class ExportedJustNow(ParleyError):
    """The last export of this account is not long ago."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "This account was exported just now: wait as long as retry-after says.", retry_after=retry_after
        )


class InvalidApiKey(ParleyError):
    """The key lets nobody in."""

    reason = ErrorReason.ERROR_REASON_UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__("The API key is unknown, expired or revoked")


class EmailNotOurs(ParleyError):
    """The e-mail that a provider vouches for has an account that never proved to own it."""

    reason = ErrorReason.ERROR_REASON_EMAIL_TAKEN

    def __init__(self) -> None:
        super().__init__(
            "An account with this e-mail exists, and its e-mail was never verified here: sign in to it by its password"
            " and link this provider, or verify the e-mail."
        )


class IdentityTaken(ParleyError):
    """The provider's user opens another account."""

    reason = ErrorReason.ERROR_REASON_IDENTITY_TAKEN

    def __init__(self) -> None:
        super().__init__("This user of the identity provider is linked to another account; unlink it there first.")


class InvalidIdToken(ParleyError):
    """An id token that proves nothing."""

    reason = ErrorReason.ERROR_REASON_INVALID_ID_TOKEN

    def __init__(self, why: str) -> None:
        super().__init__(f"The id token is not accepted: {why}. Begin again with a new nonce.")


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


class ReauthenticationRequired(ParleyError):
    """The session began too long ago for a change of the ways into its account."""

    reason = ErrorReason.ERROR_REASON_REAUTHENTICATION_REQUIRED

    def __init__(self) -> None:
        super().__init__(
            "This session began too long ago for this change: prove again that it is you by POST /v1/auth/reauthenticate,"
            " or sign in again, and repeat the call."
        )


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


class TooManyCodes(ParleyError):
    """Too many wrong codes for one account."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "Too many wrong codes for this account: wait as long as retry-after says. Devices that are signed in stay so.",
            retry_after=retry_after,
        )


class InvalidCode(ParleyError):
    """The second factor's code proves nothing."""

    reason = ErrorReason.ERROR_REASON_INVALID_CODE

    def __init__(self) -> None:
        super().__init__("The code is wrong or was used before; enter the next one.")


class InvalidPasskey(ParleyError):
    """A passkey's answer signs nobody in."""

    reason = ErrorReason.ERROR_REASON_INVALID_PASSKEY

    def __init__(self) -> None:
        super().__init__("This passkey does not sign in here; begin again, or sign in another way.")


class InvalidMfaToken(ParleyError):
    """The sign-in that waited for its second factor is over."""

    reason = ErrorReason.ERROR_REASON_INVALID_MFA_TOKEN

    def __init__(self) -> None:
        super().__init__("The second step of this sign-in took too long or was done before; sign in again.")
