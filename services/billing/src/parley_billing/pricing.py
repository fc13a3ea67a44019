"""What things cost. Integers only; 1 credit is 1,000,000 micros."""

from __future__ import annotations

from dataclasses import dataclass

_MILLION = 1_000_000


@dataclass(frozen=True)
class Quantity:
    """Counted units: prompt tokens, generated tokens, width x height x steps."""

    input_tokens: int = 0
    output_tokens: int = 0
    pixel_steps: int = 0


@dataclass(frozen=True)
class Price:
    """One immutable version of a model's price, in micros per million units."""

    version: int
    input_tokens: int
    output_tokens: int
    pixel_steps: int

    def of(self, quantity: Quantity) -> int:
        """Return the price of a quantity in micros, rounded up once at the end."""
        total = (
            quantity.input_tokens * self.input_tokens
            + quantity.output_tokens * self.output_tokens
            + quantity.pixel_steps * self.pixel_steps
        )
        return -(-total // _MILLION)
