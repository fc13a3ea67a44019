"""Looks at the pixels: what is on a picture of parley-nano-image, and whether it was asked for.

Each pixel gets the nearest of the known colours; the most frequent colour at the rim is the background. Connected pixels
of another colour are a part when they are more than a thin line, as blurred edges are. A part's shape is the one whose
outline, drawn into the part's bounding box, overlaps it best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from image.scenes import COLOURS, PLACES, SHAPES, SIDE, Scene, Thing

SMALLEST = 60  # pixels of a part that counts
NEAR = 15  # pixels between the place asked for and the place found
APART = 20  # pixels between two things that are left of, above, … each other
TEMPLATE = 48  # pixels of a side
_NAMES = list(COLOURS)
_PALETTE = np.array(list(COLOURS.values()), np.float32)


@dataclass(frozen=True)
class Part:
    """A connected part of one colour; `x`, `y` are the middle of its bounding box."""

    colour: str
    shape: str
    x: float
    y: float
    pixels: int


@dataclass(frozen=True)
class Verdict:
    """What is right. A part too many or too few makes colour and shape wrong, a missing thing the place as well."""

    colour: bool
    shape: bool
    place: bool


def nearest_colours(picture: Image.Image) -> np.ndarray:
    """Return the index of the nearest known colour for each pixel, (height, width)."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    return np.asarray(((_PALETTE**2).sum(1) - 2 * pixels @ _PALETTE.T).argmin(-1))


def look(picture: Image.Image) -> tuple[str, list[Part]]:
    """Return the background's colour and the parts, the largest first."""
    colours = nearest_colours(picture)
    rim = np.concatenate([colours[:3].ravel(), colours[-3:].ravel(), colours[:, :3].ravel(), colours[:, -3:].ravel()])
    background = int(np.bincount(rim).argmax())
    parts = []
    for colour in set(np.flatnonzero(np.bincount(colours.ravel()) >= SMALLEST)) - {background}:
        same = colours == colour
        labels, count = ndimage.label(ndimage.binary_opening(same, np.ones((3, 3))))
        for number in range(1, count + 1):
            mask = ndimage.binary_propagation(labels == number, mask=same)  # the tips are back
            if mask.sum() >= SMALLEST:
                parts.append(_part(_NAMES[colour], mask))
    return _NAMES[background], sorted(parts, key=lambda part: -part.pixels)


def judge(picture: Image.Image, scene: Scene) -> Verdict:
    """Compare a picture with what was asked for."""
    background, parts = look(picture)
    found = [_best(parts, thing) for thing in scene.things]
    whole = len(parts) == len(scene.things) and None not in found and len(set(found)) == len(found)
    colour = (
        whole
        and background == scene.background
        and all(
            part is not None and part.colour == thing.colour for part, thing in zip(found, scene.things, strict=True)
        )
    )
    shape = whole and all(
        part is not None and part.shape == thing.shape for part, thing in zip(found, scene.things, strict=True)
    )
    return Verdict(colour, shape, _placed([part for part in found if part is not None], scene))


def _best(parts: list[Part], thing: Thing) -> Part | None:
    """Return the part meant by a thing: the right colour first, then the nearest."""
    x, y = PLACES[thing.place]
    return min(parts, key=lambda part: (part.colour != thing.colour, np.hypot(part.x - x, part.y - y)), default=None)


def _placed(found: list[Part], scene: Scene) -> bool:
    if len(found) != len(scene.things):
        return False
    if scene.relation:
        first, second = found
        return {
            "left of": second.x - first.x,
            "right of": first.x - second.x,
            "above": second.y - first.y,
            "below": first.y - second.y,
            "and": abs(first.x - second.x) + abs(first.y - second.y),
        }[scene.relation] >= APART
    return all(
        np.hypot(part.x - PLACES[thing.place][0], part.y - PLACES[thing.place][1]) <= NEAR
        for part, thing in zip(found, scene.things, strict=True)
    )


def _part(colour: str, mask: np.ndarray) -> Part:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    box = Image.fromarray(mask[top:bottom, left:right]).resize((TEMPLATE, TEMPLATE))
    middle = float(left + right) / 2, float(top + bottom) / 2
    return Part(colour, _shape(np.asarray(box)), *middle, int(mask.sum()))


def _shape(box: np.ndarray) -> str:
    def overlap(template: np.ndarray) -> float:
        return float((box & template).sum() / (box | template).sum())

    return max(_templates(), key=lambda name: overlap(_templates()[name]))


@cache
def _templates() -> dict[str, np.ndarray]:
    """Return each shape filling its bounding box, (TEMPLATE, TEMPLATE) of bool."""
    made = {}
    for name, corners in SHAPES.items():
        picture = Image.new("1", (SIDE, SIDE))
        pen = ImageDraw.Draw(picture)
        if corners is None:
            pen.ellipse((0, 0, SIDE - 1, SIDE - 1), fill=1)
        else:
            xs, ys = [x for x, _ in corners], [y for _, y in corners]
            scaled = [
                ((x - min(xs)) / (max(xs) - min(xs)) * (SIDE - 1), (y - min(ys)) / (max(ys) - min(ys)) * (SIDE - 1))
                for x, y in corners
            ]
            pen.polygon(scaled, fill=1)
        made[name] = np.asarray(picture.resize((TEMPLATE, TEMPLATE)))
    return made
