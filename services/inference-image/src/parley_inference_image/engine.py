"""What the worker needs of an engine; diffusers_engine.py is the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from parley_inference_image.job import Picture

# Called in the drawing thread after each step with the steps done; raises Stopped to end the drawing.
OnStep = Callable[[int], None]


class Engine(Protocol):
    """A loaded picture model. One drawing at a time."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels that the model draws best."""
        ...

    def draw(self, picture: Picture, on_step: OnStep) -> bytes:
        """Draw (blocking) and return a PNG. Whatever `on_step` raises comes out of here."""
        ...
