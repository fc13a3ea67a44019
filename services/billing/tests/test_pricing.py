import pytest
from parley_billing.pricing import Price, Quantity

PRICE = Price(
    1,
    input_tokens=100_000,
    output_tokens=400_000,
    pixel_steps=10_000,
    cached_input_tokens=25_000,
    audio_seconds=2_000_000,
)


@pytest.mark.parametrize(
    ("quantity", "micros"),
    [
        (Quantity(), 0),
        (Quantity(input_tokens=1), 1),
        (Quantity(input_tokens=10), 1),
        (Quantity(input_tokens=11), 2),
        (Quantity(input_tokens=5, output_tokens=5), 3),  # 0.5 + 2.0, rounded up once and not twice
        (Quantity(output_tokens=1_000_000), 400_000),
        (Quantity(input_tokens=100, cached_input_tokens=80), 4),
        (Quantity(input_tokens=100, cached_input_tokens=100), 3),
        (Quantity(audio_seconds=7), 14),
        (Quantity(pixel_steps=128 * 128 * 20), 3277),
        (Quantity(input_tokens=10**12, output_tokens=10**12), 5 * 10**11),
    ],
)
def test_prices_are_rounded_up_once(quantity, micros):
    assert PRICE.of(quantity) == micros
