"""What things cost. Integers only; 1 credit is 1,000,000 micros."""

from __future__ import annotations

from dataclasses import astuple, dataclass

_MILLION = 1_000_000


@dataclass(frozen=True)
class Quantity:
    """Counted units: prompt tokens, generated tokens, width x height x steps, cached prompt tokens, seconds of sound.

    The cached ones are among the prompt tokens.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    pixel_steps: int = 0
    cached_input_tokens: int = 0
    audio_seconds: int = 0

    def at_least(self, other: Quantity) -> Quantity:
        """Return the larger of each unit."""
        return Quantity(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Price:
    """One immutable version of a model's price, in micros per million units."""

    version: int
    input_tokens: int
    output_tokens: int
    pixel_steps: int
    cached_input_tokens: int
    audio_seconds: int

    def of(self, quantity: Quantity) -> int:
        """Return the price of a quantity in micros, rounded up once at the end."""
        total = (
            (quantity.input_tokens - quantity.cached_input_tokens) * self.input_tokens
            + quantity.cached_input_tokens * self.cached_input_tokens
            + quantity.output_tokens * self.output_tokens
            + quantity.pixel_steps * self.pixel_steps
            + quantity.audio_seconds * self.audio_seconds
        )
        return -(-total // _MILLION)
