"""Sends the stored mails, in every replica: each mail is taken by one of them, and taken again when it is not sent."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable
from typing import Protocol

import structlog

from parley_auth import metrics
from parley_auth.mail_delivery import Mail, Undeliverable
from parley_auth.mail_text import QueuedMail, Writer
from parley_auth.mailing import Kind

log = structlog.get_logger()
EVERY_SECONDS = 0.5
_BATCH = 10


class Store(Protocol):
    """What sending needs of the database."""

    async def take_mails(self, now: dt.datetime, limit: int) -> list[QueuedMail]:
        """Take what is due; what is not deleted comes back, later each time."""
        ...

    async def delete_mail(self, mail_id: uuid.UUID) -> None:
        """Forget a mail."""
        ...

    async def expire_mails(self, now: dt.datetime) -> int:
        """Forget what could not be sent in time; return how many."""
        ...


class MailQueue:
    """Sends and forgets. A process that dies between the two sends a mail a second time, under the same Message-ID."""

    def __init__(self, store: Store, mail: Mail, writer: Writer, *, clock: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._mail = mail
        self._writer = writer
        self._clock = clock

    async def drain(self) -> None:
        """Send everything that is due, until a whole batch could not be sent."""
        if expired := await self._store.expire_mails(self._clock()):
            metrics.mails.labels(result="expired").inc(expired)
            log.error("mails could not be sent in time and were dropped", mails=expired)
        while due := await self._store.take_mails(self._clock(), _BATCH):
            if not any(await asyncio.gather(*(self._send(mail) for mail in due))):
                return

    async def _send(self, mail: QueuedMail) -> bool:
        result = "sent"
        try:
            if mail.kind is not Kind.NONE:
                await self._mail.send(self._writer.write(mail))
        except (Undeliverable, ValueError) as error:
            result = "refused"
            log.warning("mail refused for good", mail_id=str(mail.id), kind=mail.kind, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever it is: the mail stays and is tried again
            metrics.mails.labels(result="failed").inc()
            log.warning("mail not sent", mail_id=str(mail.id), attempts=mail.attempts, error=type(error).__name__)
            return False
        if mail.kind is not Kind.NONE:
            metrics.mails.labels(result=result).inc()
        await self._store.delete_mail(mail.id)
        return True
