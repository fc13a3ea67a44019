"""The real engine with the built-in model."""

from __future__ import annotations

import io

import pytest
from parley_inference_image.engine import Engine
from parley_inference_image.errors import Stopped
from parley_inference_image.job import Picture
from PIL import Image

PICTURE = Picture(prompt="a cat", negative_prompt="rain", width=72, height=64, steps=3, seed=2**63 - 1)


def test_draws_the_size_that_was_asked_and_tells_each_step(engine: Engine) -> None:
    steps: list[int] = []
    image = Image.open(io.BytesIO(engine.draw(PICTURE, steps.append)))
    assert (image.format, image.size, steps) == ("PNG", (72, 64), [1, 2, 3])


def test_stops_between_steps_and_draws_again_as_ever(engine: Engine) -> None:
    whole = engine.draw(PICTURE, lambda _: None)

    def stop(step: int) -> None:
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        engine.draw(PICTURE, stop)
    assert engine.draw(PICTURE, lambda _: None) == whole


def test_knows_its_own_size(engine: Engine) -> None:
    width, height = engine.size
    image = Image.open(io.BytesIO(engine.draw(Picture("a cat", "", width, height, 1, 0), lambda _: None)))
    assert image.size == engine.size
