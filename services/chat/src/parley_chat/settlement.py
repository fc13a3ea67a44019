"""The outbox: what billing must be told is written with the end of a generation, and told until it is acknowledged.

Repeating is safe: the generation's id is the idempotency key and the quantity is stored, so billing answers a repeated
call with its first answer.
"""

from __future__ import annotations

import asyncio

import structlog
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import ParleyError

from parley_chat import metrics
from parley_chat.clients import Billing
from parley_chat.generation import Owed
from parley_chat.repository import Repository

_log = structlog.get_logger()
_BATCH = 20
_TELL_NOW_SECONDS = 2.0
# Asking again cannot change these answers.
_FINAL_REFUSALS = frozenset(
    {
        ErrorReason.ERROR_REASON_FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS,
        ErrorReason.ERROR_REASON_NOT_FOUND,
        ErrorReason.ERROR_REASON_INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_IDEMPOTENCY_CONFLICT,
    }
)


class Settlements:
    """Settles and releases the holds of ended generations."""

    def __init__(self, repository: Repository, billing: Billing) -> None:
        self._repository = repository
        self._billing = billing
        self._acknowledging: set[asyncio.Task[None]] = set()

    async def tell_now(self, owed: Owed) -> int | None:
        """Tell billing at once and return its charge in micros; None when it does not answer: then the outbox has it."""
        try:
            async with asyncio.timeout(_TELL_NOW_SECONDS):
                charged = await self._ask(owed)
        except (ParleyError, TimeoutError) as error:
            _log.warning("settlement waits", generation_id=str(owed.generation_id), error=type(error).__name__)
            return None
        # Off the road of the user's `finish`; when it fails, the outbox asks billing again and gets the same answer.
        task = asyncio.create_task(self._acknowledge(owed, charged))
        self._acknowledging.add(task)
        task.add_done_callback(self._acknowledging.discard)
        return charged

    async def drain(self) -> None:
        """Tell billing everything that is due, until a whole batch goes unanswered."""
        while due := await self._repository.take_due(_BATCH):
            told = await asyncio.gather(*(self._tell(owed) for owed in due))
            if not any(told):
                return  # billing is away: the rest waits for its turn

    async def settle_down(self) -> None:
        """Wait for the acknowledgements that are being recorded."""
        await asyncio.gather(*self._acknowledging, return_exceptions=True)

    async def _tell(self, owed: Owed) -> bool:
        try:
            charged = await self._ask(owed)
        except ParleyError as error:
            _log.warning(
                "settlement waits", generation_id=str(owed.generation_id), reason=error.code, attempts=owed.attempts
            )
            return False
        await self._repository.acknowledged(owed.generation_id, charged)
        return True

    async def _acknowledge(self, owed: Owed, charged: int) -> None:
        try:
            await self._repository.acknowledged(owed.generation_id, charged)
        except Exception as error:  # noqa: BLE001 - the outbox repeats it
            _log.warning("acknowledgement not recorded", error=type(error).__name__)

    async def _ask(self, owed: Owed) -> int:
        """Return the charge. A refusal for good counts as an answer: nothing was taken."""
        try:
            if owed.usage is not None:
                return await self._billing.settle(owed.generation_id, owed.usage, owed.served)
            await self._billing.release(owed.generation_id)
        except ParleyError as refusal:
            if refusal.reason not in _FINAL_REFUSALS:
                raise
            if owed.usage is not None:  # delivered and not paid; a release of a hold that never was is nothing
                metrics.REFUSED.inc()
                _log.error("settlement refused", generation_id=str(owed.generation_id), reason=refusal.code)
                await self._repository.refused(owed.generation_id, refusal.code)
        return 0
