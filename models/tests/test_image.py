"""parley-nano-image's committed weights: what they are, and how often they draw what was asked."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline
from image import networks
from image.evaluate import STEPS, load, measure
from image.look import look
from image.scenes import Scene, Thing, draw
from PIL import Image
from safetensors import safe_open

FOLDER = Path(__file__).parents[1] / "parley-nano-image"


def test_it_is_a_small_stable_diffusion_in_safetensors_only():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    assert {file.suffix for file in files} <= {".json", ".txt", ".safetensors", ".md", ".png"}
    for file in FOLDER.glob("*/*.safetensors"):
        with safe_open(file, "pt") as weights:
            kinds = {weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118 - it is no dict
            assert kinds <= {torch.float16, torch.int64}


@pytest.fixture(scope="module")
def pipeline():
    return load(FOLDER)


def drawn(pipeline, prompt, seed=1, **options):
    own = json.loads((FOLDER / "generation_config.json").read_text())
    options = own | {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(seed)} | options
    return pipeline(prompt, **options).images[0]


@pytest.mark.timeout(300)
def test_held_out_prompts_are_drawn_right_often_enough(pipeline):
    assert STEPS <= 20
    parts = measure(pipeline).parts()
    assert parts["colour"] >= 0.85, parts
    assert parts["shape"] >= 0.85, parts
    assert parts["place"] >= 0.95, parts


def test_the_same_seed_is_the_same_picture_and_another_is_another(pipeline):
    one, again, other = (np.asarray(drawn(pipeline, "a red circle", seed)) for seed in (1, 1, 2))
    assert one.shape == (128, 128, 3)
    assert (one == again).all()
    assert (one != other).any()


def test_a_negative_prompt_is_heard(pipeline):
    without, against = (np.asarray(drawn(pipeline, "a circle", negative_prompt=words)) for words in ("", "blue"))
    assert (without != against).any()


def test_image_to_image_changes_what_is_asked_and_keeps_the_place(pipeline):
    given = drawn(pipeline, "a red circle at the top left")
    editor = StableDiffusion3Img2ImgPipeline.from_pipe(pipeline)
    editor.set_progress_bar_config(disable=True)
    made = drawn(editor, "a blue circle at the top left", image=given, strength=0.8)
    background, parts = look(made)
    assert background == "white"
    assert [part.colour for part in parts] == ["blue"]
    assert np.hypot(parts[0].x - 34, parts[0].y - 34) < 15
    same = drawn(editor, "a red circle at the top left", image=given, strength=0.2)
    assert np.abs(np.asarray(same, float) - np.asarray(given, float)).mean() < 12


def test_inpainting_changes_the_inside_of_the_mask_only(pipeline):
    scene = Scene(
        (Thing("circle", "red", "medium", "left"), Thing("square", "green", "medium", "right")), "white", "left of"
    )
    given = draw(scene, random.Random(1))
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 32, 128, 96))
    painter = StableDiffusion3InpaintPipeline.from_pipe(pipeline)
    painter.set_progress_bar_config(disable=True)
    made = drawn(painter, "a red circle left of a blue cross", image=given, mask_image=mask, strength=1.0)
    _, parts = look(made)
    assert {(part.colour, part.shape) for part in parts} == {("red", "circle"), ("blue", "cross")}
    outside = np.asarray(mask) == 0
    difference = np.abs(np.asarray(made, float) - np.asarray(given, float)).mean(-1)
    assert difference[outside].mean() < 4


def test_one_absent_token_that_counts_as_many_is_what_diffusers_computes(pipeline):
    numbers = torch.Generator().manual_seed(1)
    asked = {
        "hidden_states": torch.randn(2, 2 * networks.LATENT_CHANNELS, 16, 16, generator=numbers),
        "pooled_projections": torch.randn(2, networks.TEXT_WIDTH, generator=numbers),
        "timestep": torch.tensor([400.0, 900.0]),
    }
    said = torch.randn(2, networks.PROMPT_TOKENS, networks.TEXT_WIDTH, generator=numbers)
    usual = pipeline.transformer.attn_processors

    def velocity(absent, processor):
        pipeline.transformer.set_attn_processor(processor)
        appended = torch.cat([said, torch.zeros(2, absent, networks.TEXT_WIDTH)], 1)
        with torch.no_grad():
            return pipeline.transformer(encoder_hidden_states=appended, **asked).sample

    whole = velocity(networks.ABSENT, dict(usual))
    one = velocity(1, networks.OneForMany())
    pipeline.transformer.set_attn_processor(usual)
    assert (whole - one).abs().max() < 1e-3 * whole.abs().max()
