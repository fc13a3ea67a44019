"""Where mails go: an SMTP server, or a folder of this machine."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Literal, Protocol

import aiosmtplib


class Undeliverable(Exception):
    """The server refused this mail for good; trying again cannot help."""


class Mail(Protocol):
    """Sends mails. Whatever is raised but Undeliverable means: try again later."""

    async def send(self, message: EmailMessage) -> None:
        """Hand a message on; it may have been handed on before, with the same Message-ID."""
        ...


@dataclass(frozen=True)
class SmtpServer:
    """An SMTP server (RFC 5321) and how to speak to it."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    timeout: float
    user: str | None = None
    password_file: Path | None = None


class SmtpMail:
    """Sends by SMTP, one connection a mail."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def send(self, message: EmailMessage) -> None:
        """Send a message; Undeliverable when the server refuses it or its recipient for good (5xx)."""
        server = self._server
        # Read at every use, so that the password can be replaced while auth runs.
        password = server.password_file.read_text().strip() if server.password_file is not None else None
        try:
            await aiosmtplib.send(
                message,
                hostname=server.host,
                port=server.port,
                username=server.user,
                password=password,
                use_tls=server.security == "tls",
                start_tls=server.security == "starttls",  # a server without it is an error, not an open line
                timeout=server.timeout,
            )
        except aiosmtplib.SMTPAuthenticationError:
            raise  # a wrong password is ours, not the mail's
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(refusal.code >= 500 for refusal in error.recipients):
                raise Undeliverable(f"recipient refused ({error.recipients[0].code})") from None
            raise
        except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError) as error:
            if error.code >= 500:
                raise Undeliverable(f"refused ({error.code})") from None
            raise


class FolderMail:
    """Writes one .eml a mail: what `make run` does, and what a developer looks at."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    async def send(self, message: EmailMessage) -> None:
        """Write a message; it is there as a whole or not at all."""
        await asyncio.to_thread(self._write, message)

    def _write(self, message: EmailMessage) -> None:
        name = message["Message-ID"].strip("<>").partition("@")[0]
        partial = self._folder / f".{name}.{os.getpid()}"
        partial.write_bytes(message.as_bytes())
        partial.rename(self._folder / f"{name}.eml")
