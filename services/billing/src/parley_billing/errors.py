"""Billing's own refusals.

ParleyError
├── InsufficientCredits  402
├── KeyLimitReached      402  of the API key, whatever the balance is
├── HoldNotPending       409
├── HoldWasReleased      409
├── HoldWasSettled       409
├── PromotionUnknown     404
├── PromotionExpired     409
└── PromotionUsed        409
"""

from __future__ import annotations

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import FailedPrecondition, ParleyError


class InsufficientCredits(ParleyError):
    """The available balance does not cover the hold. Amounts are in micros."""

    reason = ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS

    def __init__(self, *, needed: int, available: int) -> None:
        super().__init__(
            f"This can cost up to {needed:,} micro-credits and {available:,} are available; "
            "top up, or ask for less (a smaller maxOutputTokens, a smaller picture, fewer steps).",
            metadata={"needed_micros": str(needed), "available_micros": str(available)},
        )


class KeyLimitReached(ParleyError):
    """The credit limit of the API key does not cover the hold. Amounts are in micros."""

    reason = ErrorReason.ERROR_REASON_KEY_LIMIT_REACHED

    def __init__(self, *, needed: int, left: int) -> None:
        super().__init__(
            f"This can cost up to {needed:,} micro-credits and {left:,} are left of this API key's limit; "
            "ask for less, or use a key with a higher limit.",
            metadata={"needed_micros": str(needed), "left_micros": str(left)},
        )


class HoldNotPending(FailedPrecondition):
    """It was resolved, so it cannot grow."""

    def __init__(self) -> None:
        super().__init__("The hold was settled, released or expired; it cannot be extended.")


class HoldWasReleased(FailedPrecondition):
    """It was given back, so nothing can be charged."""

    def __init__(self) -> None:
        super().__init__("The hold was released; nothing can be charged against it.")


class HoldWasSettled(FailedPrecondition):
    """It was charged, so nothing can be given back."""

    def __init__(self) -> None:
        super().__init__("The hold was settled; there is nothing to release.")


class PromotionUnknown(ParleyError):
    """There is no such code."""

    reason = ErrorReason.ERROR_REASON_PROMOTION_CODE_UNKNOWN

    def __init__(self) -> None:
        super().__init__("There is no such promotion code; look for a letter that was mistyped.")


class PromotionExpired(ParleyError):
    """Its time is over."""

    reason = ErrorReason.ERROR_REASON_PROMOTION_CODE_EXPIRED

    def __init__(self) -> None:
        super().__init__("The time of this promotion code is over.")


class PromotionUsed(ParleyError):
    """By this user, or by as many as may."""

    reason = ErrorReason.ERROR_REASON_PROMOTION_CODE_USED
