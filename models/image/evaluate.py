"""Measures a picture model: held-out sentences in, pixels looked at. `python models/image/evaluate.py [FOLDER]`."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from PIL import Image

from image.look import Verdict, judge
from image.networks import OneForMany
from image.scenes import SIDE, Scene, sample, say

PROMPTS = 200
STEPS = 16
GUIDANCE = 1.5  # above it specks of other colours come
BATCH = 20
EXAMPLES = (
    "a red circle",
    "a small blue triangle in the top right corner on a yellow background",
    "a big green square on grey",
    "a white cross on a black background",
    "a small red circle left of a blue square on a white background",
    "a green triangle above a black cross",
    "draw a large yellow circle next to a tiny black square on grey",
    "a white square under a red triangle on a black background",
)


@dataclass(frozen=True)
class Measures:
    """Pictures with everything right of a kind, of `count`."""

    count: int
    colour: int
    shape: int
    colour_and_shape: int
    place: int

    def parts(self) -> dict[str, float]:
        """Return the parts that are right, 0 to 1."""
        return {
            "colour": self.colour / self.count,
            "shape": self.shape / self.count,
            "colour_and_shape": self.colour_and_shape / self.count,
            "place": self.place / self.count,
        }


def held_out(count: int = PROMPTS) -> list[tuple[str, Scene]]:
    """Return sentences about combinations that training never showed, always the same ones."""
    picker = random.Random("held out")
    found: list[tuple[str, Scene]] = []
    while len(found) < count:
        scene = sample(picker)
        if scene.held_out:
            found.append((say(scene, picker), scene))
    return found


def pictures(pipeline: Any, prompts: list[str], *, steps: int = STEPS, **options: Any) -> list[Image.Image]:
    """Draw a picture per prompt; the seed is the number of the prompt."""
    options = {"guidance_scale": GUIDANCE, "num_inference_steps": steps, "max_sequence_length": 1, **options}
    usual = pipeline.transformer.attn_processors
    pipeline.transformer.set_attn_processor(OneForMany())
    made: list[Image.Image] = []
    try:
        for first in range(0, len(prompts), BATCH):
            some = prompts[first : first + BATCH]
            seeds = [torch.Generator().manual_seed(first + number) for number in range(len(some))]
            made += pipeline(some, generator=seeds, **options).images
    finally:
        pipeline.transformer.set_attn_processor(usual)
    return made


def measure(pipeline: Any, count: int = PROMPTS, **options: Any) -> Measures:
    """Draw held-out prompts and look at what came."""
    asked = held_out(count)
    drawn = pictures(pipeline, [prompt for prompt, _ in asked], **options)
    verdicts = [judge(picture, scene) for picture, (_, scene) in zip(drawn, asked, strict=True)]
    return count_right(verdicts)


def count_right(verdicts: list[Verdict]) -> Measures:
    """Count."""
    return Measures(
        len(verdicts),
        sum(verdict.colour for verdict in verdicts),
        sum(verdict.shape for verdict in verdicts),
        sum(verdict.colour and verdict.shape for verdict in verdicts),
        sum(verdict.place for verdict in verdicts),
    )


def sheet(pipeline: Any) -> Image.Image:
    """Return the examples, four in a row."""
    whole = Image.new("RGB", (4 * SIDE, len(EXAMPLES) // 4 * SIDE))
    for number, picture in enumerate(pictures(pipeline, list(EXAMPLES))):
        whole.paste(picture, (number % 4 * SIDE, number // 4 * SIDE))
    return whole


def load(folder: Path) -> Any:
    """Load the pipeline of a folder; its third text encoder is not there."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, text_encoder_3=None, tokenizer_3=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main() -> None:
    """Print the measures of a folder."""
    parser = argparse.ArgumentParser(description="Measure a picture model on held-out prompts.")
    default = Path(__file__).resolve().parent.parent / "parley-nano-image"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="guidance scale (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, help="write example pictures to this PNG")
    arguments = parser.parse_args()
    pipeline = load(arguments.folder)
    began = time.monotonic()
    for name, part in measure(pipeline, steps=arguments.steps, guidance_scale=arguments.guidance).parts().items():
        print(f"{name:17} {part:6.1%}")
    print(f"{PROMPTS} pictures in {time.monotonic() - began:.0f} s")
    if arguments.sheet:
        sheet(pipeline).save(arguments.sheet)


if __name__ == "__main__":
    main()
