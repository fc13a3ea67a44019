"""What parley-nano-image learns to draw: one or two plain shapes, said in English and drawn by code.

A scene is sampled, named and drawn with its own random generators, so a scene can be said in many ways and a sentence
drawn in many ways. Lengths are pixels of a 128x128 picture, colours 8-bit RGB, places centres of shapes.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

SIDE = 128
COLOURS = {
    "red": (220, 40, 40),
    "yellow": (250, 220, 50),
    "green": (45, 160, 70),
    "blue": (45, 85, 215),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "grey": (140, 140, 140),
}
OBJECT_COLOURS = ("red", "yellow", "green", "blue", "black", "white")
BACKGROUNDS = ("white", "black", "grey", "yellow")
SIZES = {"small": 15, "medium": 21, "large": 27}  # half of the width
PLACES = {
    "top left": (34, 34),
    "top": (64, 34),
    "top right": (94, 34),
    "left": (34, 64),
    "middle": (64, 64),
    "right": (94, 64),
    "bottom left": (34, 94),
    "bottom": (64, 94),
    "bottom right": (94, 94),
}
PLACE_JITTER = 2
SIZE_JITTER = 1
HELD_OUT_ONE_IN = 20

Relation = Literal["", "left of", "right of", "above", "below", "and"]
# Where the first and the second of two shapes are.
RELATIONS: dict[Relation, tuple[str, str]] = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
    "and": ("left", "right"),
}


@dataclass(frozen=True)
class Thing:
    """A shape of a colour and a size in a place."""

    shape: str
    colour: str
    size: str
    place: str


@dataclass(frozen=True)
class Scene:
    """One or two things on a background. `relation` is how two things were placed, "" when each place is named."""

    things: tuple[Thing, ...]
    background: str
    relation: Relation = ""

    @property
    def held_out(self) -> bool:
        """Whether this combination is never trained on: one in twenty, by a hash of everything that is said of it."""
        return int.from_bytes(hashlib.sha256(repr(self).encode()).digest()[:4]) % HELD_OUT_ONE_IN == 0


_ARM = 0.36
# Corners in units of the half width; None is round.
SHAPES: dict[str, list[tuple[float, float]] | None] = {
    "circle": None,
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -0.95), (1, 0.85), (-1, 0.85)],
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip


def sample(random: random.Random) -> Scene:
    """Return any scene, held out or not."""
    background = "white" if random.random() < 0.5 else random.choice(BACKGROUNDS)

    def thing(place: str, not_the: str = "") -> Thing:
        colours = [colour for colour in OBJECT_COLOURS if colour not in {background, not_the}]
        size = random.choice(("small", "medium", "medium", "large"))
        return Thing(random.choice(list(SHAPES)), random.choice(colours), size, place)

    if random.random() < 0.5:
        return Scene((thing("middle" if random.random() < 0.35 else random.choice(list(PLACES))),), background)
    relation = random.choice(list(RELATIONS))
    first = thing(RELATIONS[relation][0])
    return Scene((first, thing(RELATIONS[relation][1], first.colour)), background, relation)


_WORDS = {
    "circle": ("circle", "circle", "circle", "disc", "dot"),
    "square": ("square", "square", "square", "box"),
    "triangle": ("triangle",),
    "cross": ("cross", "cross", "plus sign"),
    "small": ("small", "small", "little", "tiny"),
    "medium": ("", "", "", "medium", "medium-sized"),
    "large": ("large", "large", "big", "huge"),
    "grey": ("grey", "gray"),
}
_OPENINGS = ("", "", "", "", "a picture of ", "a drawing of ", "an image of ", "draw ", "please draw ", "show me ")
_RELATION_WORDS: dict[Relation, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
    "and": ("and", "next to", "beside", "and"),
}


def say(scene: Scene, random: random.Random) -> str:
    """Return a sentence that says everything about a scene, one of many."""
    first = _name(scene.things[0], random)
    if scene.relation:
        sentence = f"{first} {random.choice(_RELATION_WORDS[scene.relation])} {_name(scene.things[1], random)}"
    else:
        sentence = f"{first}{_where(scene.things[0].place, random, alone=len(scene.things) == 1)}"
        if len(scene.things) > 1:
            second = scene.things[1]
            sentence += f" and {_name(second, random)}{_where(second.place, random, alone=False)}"
    sentence = random.choice(_OPENINGS) + sentence
    if scene.background != "white" or random.random() < 0.4:
        colour = random.choice(_WORDS.get(scene.background, (scene.background,)))
        wording = random.choice(("on a {} background", "on a {} background", "on {}", "with a {} background"))
        sentence += ("," if random.random() < 0.2 else "") + " " + wording.format(colour)
    return sentence + ("." if random.random() < 0.15 else "")


def hint(scene: Scene, random: random.Random) -> str:
    """Return a few words that say only a part: what negative prompts are made of."""
    thing = random.choice(scene.things)
    colour, shape = thing.colour, random.choice(_WORDS[thing.shape])
    article = "an" if colour[0] in "aeiou" else "a"
    return random.choice(
        (
            colour, shape, f"a {shape}", f"{article} {colour} shape", f"{article} {colour} {shape}",
            f"{scene.background} background", f"a {scene.background} background",
        )
    )  # fmt: skip


def _name(thing: Thing, random: random.Random) -> str:
    size, shape = random.choice(_WORDS[thing.size]), random.choice(_WORDS[thing.shape])
    words = " ".join(word for word in (size, thing.colour, shape) if word)
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _where(place: str, random: random.Random, *, alone: bool) -> str:
    if place == "middle":
        wordings = ("in the middle", "in the center", "in the centre", "at the center")
        return "" if alone and random.random() < 0.6 else " " + random.choice(wordings)
    if " " in place:
        place = random.choice((place, place, place.replace("top", "upper").replace("bottom", "lower")))
        return " " + random.choice((f"in the {place} corner", f"in the {place}", f"at the {place}"))
    if place in {"top", "bottom"}:
        return " " + random.choice((f"at the {place}", f"on the {place}", f"at the {place} of the picture"))
    return " " + random.choice((f"on the {place}", f"on the {place} side", f"at the {place}"))


def draw(scene: Scene, random: random.Random) -> Image.Image:
    """Return a picture of a scene: places and sizes vary a little."""
    twice = 2
    picture = Image.new("RGB", (SIDE * twice, SIDE * twice), COLOURS[scene.background])
    pen = ImageDraw.Draw(picture)
    for thing in scene.things:
        x, y = (twice * (middle + random.uniform(-PLACE_JITTER, PLACE_JITTER)) for middle in PLACES[thing.place])
        half = twice * (SIZES[thing.size] + random.uniform(-SIZE_JITTER, SIZE_JITTER))
        corners = SHAPES[thing.shape]
        if corners is None:
            pen.ellipse((x - half, y - half, x + half, y + half), fill=COLOURS[thing.colour])
        else:
            pen.polygon([(x + half * dx, y + half * dy) for dx, dy in corners], fill=COLOURS[thing.colour])
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)
