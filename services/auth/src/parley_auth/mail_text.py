"""The words of the mails."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from parley_auth.mailing import Kind

_IGNORE = "If that was not you, ignore this mail: nothing happens then."
_ALARM = "If that was not you, ask for a new password at once: that signs every device out and removes what was added lately."
_CHANGES = {
    Kind.IDENTITY_LINKED: ("A way to sign in was added", "An identity provider was linked to your Parley account."),
    Kind.IDENTITY_UNLINKED: (
        "A way to sign in was removed",
        "An identity provider was unlinked from your Parley account.",
    ),
    Kind.PASSKEY_ADDED: ("A passkey was added", "A passkey was added to your Parley account."),
    Kind.PASSKEY_DELETED: ("A passkey was removed", "A passkey was removed from your Parley account."),
    Kind.SECOND_FACTOR_ON: ("Second factor turned on", "A second factor was turned on for your Parley account."),
    Kind.SECOND_FACTOR_OFF: ("Second factor turned off", "The second factor of your Parley account was turned off."),
    Kind.RECOVERY_CODES_REPLACED: ("New recovery codes", "The recovery codes of your Parley account were replaced."),
    Kind.API_KEY_MADE: ("An API key was made", "An API key was made for your Parley account."),
}


@dataclass(frozen=True)
class QueuedMail:
    """A mail to be sent."""

    id: uuid.UUID
    kind: Kind
    recipient: str
    token: str | None
    created_at: dt.datetime
    attempts: int
    details: str | None = None


class Writer:
    """Writes mails. `app_url`: where the app opens links; empty: mails carry the bare token only."""

    def __init__(self, *, sender: str, app_url: str) -> None:
        self._sender = sender
        self._app_url = app_url.rstrip("/")

    def write(self, mail: QueuedMail) -> EmailMessage:
        """Return the message; ValueError when the recipient's address is none."""
        subject, text = self._words(mail)
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = mail.recipient
        message["Subject"] = subject
        message["Date"] = format_datetime(mail.created_at)
        # The same when it is sent twice, so that mailboxes show it once.
        message["Message-ID"] = f"<{mail.id}@{parseaddr(self._sender)[1].rpartition('@')[2] or 'parley'}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message

    def _words(self, mail: QueuedMail) -> tuple[str, str]:
        if mail.kind in _CHANGES:
            subject, text = _CHANGES[mail.kind]
            return subject, f"{text}\n\n{_ALARM}\n"
        match mail.kind:
            case Kind.VERIFY_EMAIL:
                text = "Somebody signed up for Parley with this address. To confirm that it was you, on the device that you did it with"
                return "Confirm your e-mail address", self._with_token(mail, text, "verify-email", "24 hours")
            case Kind.RESET_PASSWORD:
                text = "Somebody asked for a new password for your Parley account. To choose one"
                return "Choose a new password", self._with_token(mail, text, "reset-password", "an hour")
            case Kind.ADDRESS_KNOWN:
                text = "Somebody signed up for Parley with this address, which has an account already."
                more = "If that was you, sign in to that account; if you forgot its password, ask for a new one."
                return "You have an account already", f"{text}\n{more}\n\n{_IGNORE}\n"
            case Kind.PASSWORD_CHANGED:
                text = "The password of your Parley account was changed, and other devices were signed out."
                more = f"\n\n{mail.details}" if mail.details else ""
                return (
                    "Your password was changed",
                    f"{text}{more}\n\nIf that was not you, ask for a new password at once.\n",
                )
            case Kind.ACCOUNT_DELETED:
                text = "Your Parley account was deleted. What is stored of it is being erased."
                return "Your account was deleted", f"{text}\n\nThis is the last mail about it.\n"
        raise ValueError("this mail is for nobody")

    def _with_token(self, mail: QueuedMail, text: str, path: str, lasts: str) -> str:
        if self._app_url:
            text += f", open\n\n{self._app_url}/{path}?token={mail.token}\n\nor"
        else:
            text += ","
        return f"{text} enter this in the app:\n\n{mail.token}\n\nIt is good once, for {lasts}. {_IGNORE}\n"
