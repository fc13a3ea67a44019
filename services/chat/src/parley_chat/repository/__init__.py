"""All SQL of chat. Every method is one transaction, nearly always of one statement.

All times are the database's clock. While a generation is RUNNING every write to it is fenced by its owner (a process):
one that lost its lease to another changes nothing any more. The unique index over unfinished generations lets one
generation at a time write to a conversation, so positions need no other lock.
"""

from __future__ import annotations

from parley_chat.repository.admission import AdmissionRepository
from parley_chat.repository.conversations import ConversationRepository
from parley_chat.repository.outbox import OutboxRepository
from parley_chat.repository.running import RunningRepository
from parley_chat.repository.user_data import UserDataRepository
from parley_chat.repository.works import WorkRepository


class Repository(
    ConversationRepository,
    AdmissionRepository,
    RunningRepository,
    OutboxRepository,
    UserDataRepository,
    WorkRepository,
):
    """Conversations, messages, generations and the outbox in Postgres. `owner` is this process."""
