"""Models that somebody else made: what they must not get the real engine to do."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from parley_inference_image import diffusers_engine
from parley_inference_image.job import Picture
from parley_kit import testing
from parley_kit.hub import UnusableModel
from parley_kit.testing import Hub
from safetensors.torch import load_file

from .conftest import BUILT_IN

PINNED = f"{Hub.NAME}@{Hub.COMMIT}"
PICTURE = Picture(prompt="a cat", negative_prompt="", width=64, height=64, steps=1, seed=1)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A copy of the model, to be spoiled."""
    return shutil.copytree(BUILT_IN, tmp_path / "model")


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A file that is there when something of the model's has run."""
    return tmp_path / "ran"


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.ran,)


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_weights_that_are_only_pickled_are_refused(foreign: Path, part: str) -> None:
    """The pickle holds the right weights: a loader that falls back to it would succeed."""
    (weights,) = (foreign / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else f"{weights.stem}.bin"
    torch.save(load_file(weights), weights.with_name(name))
    weights.unlink()
    with pytest.raises(UnusableModel, match=rf"{part}/{name} is a pickle.*convert"):
        diffusers_engine.load(str(foreign), device="cpu")


def test_pickles_beside_the_weights_are_not_opened(foreign: Path, ran: Path) -> None:
    for part in (foreign, *(weights.parent for weights in foreign.glob("*/*.safetensors"))):
        for stem in ("diffusion_pytorch_model", "pytorch_model", "model", "vocab"):
            for kind in ("pt", "pth", "ckpt", "pkl"):
                (part / f"{stem}.{kind}").write_bytes(pickle.dumps(Bomb(ran)))
            torch.save(Bomb(ran), part / f"{stem}.bin")
    edit(foreign / "model_index.json", _ignore_files=["v1-5.ckpt"], sizes=[], means=[0.5])
    diffusers_engine.load(str(foreign), device="cpu").draw(PICTURE, lambda _: None)
    assert not ran.exists()
    pickle.loads((foreign / "transformer" / "model.pkl").read_bytes())  # noqa: S301 - the trap works
    assert ran.exists()


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.gguf", "model.tar"])
def test_weights_in_any_other_form_are_a_readable_cause(foreign: Path, name: str) -> None:
    (weights,) = (foreign / "transformer").glob("*.safetensors")
    with tarfile.open(weights.with_name(name), "w") as archive:
        archive.add(weights)
    weights.unlink()
    with pytest.raises(UnusableModel, match=r"(?i)no file named .*safetensors"):
        diffusers_engine.load(str(foreign), device="cpu")


@pytest.mark.parametrize("place", ["pipeline", "part", "installed", "map", "unasked"])
def test_code_of_a_model_is_not_run(foreign: Path, ran: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    code = f"""
import pathlib
from diffusers import StableDiffusion3Pipeline, SD3Transformer2DModel
pathlib.Path({str(ran)!r}).touch()
class Pipeline(StableDiffusion3Pipeline): pass
class Part(SD3Transformer2DModel): pass
"""
    for name in ("own", "pipeline", "None"):  # None.py is what diffusers would take as the custom pipeline
        for folder in (foreign, foreign / "transformer"):
            if place != "unasked" or name != "None":
                (folder / f"{name}.py").write_text(code)
    index = foreign / "model_index.json"
    if place == "pipeline":
        edit(index, _class_name=["own", "Pipeline"])
    elif place == "part":
        edit(index, transformer=["own", "Part"])
    elif place == "installed":  # Python could import it
        monkeypatch.syspath_prepend(foreign)
        (foreign / "transformer" / "own.py").unlink()
        edit(index, transformer=["own", "Part"])
    elif place == "map":
        edit(foreign / "text_encoder" / "config.json", auto_map={"AutoModel": "own.Part"})
    if place == "unasked":
        diffusers_engine.load(str(foreign), device="cpu").draw(PICTURE, lambda _: None)
    else:
        with pytest.raises(UnusableModel, match=r"\.json asks for code of the model's own"):
            diffusers_engine.load(str(foreign), device="cpu")
    assert not ran.exists()


def test_a_part_that_lies_in_the_models_own_folder_is_looked_at_too(foreign: Path) -> None:
    for file in (foreign / "transformer").iterdir():
        file.rename(foreign / file.name)
    (foreign / "transformer").rmdir()
    edit(foreign / "config.json", auto_map={"AutoModel": "own.Part"})
    with pytest.raises(UnusableModel, match=r": config\.json asks for code"):
        diffusers_engine.load(str(foreign), device="cpu")


@pytest.mark.parametrize("source", ["/nowhere/at/all", "."])
def test_what_is_no_pipeline_says_so(source: str) -> None:
    with pytest.raises(UnusableModel, match=r"no such folder|model_index"):
        diffusers_engine.load(source, device="cpu")


def test_an_unpinned_hub_model_is_refused_before_anything_is_fetched(foreign: Path, tmp_path: Path) -> None:
    with testing.hub(foreign, tmp_path / "cache") as hub:
        with pytest.raises(UnusableModel, match=f"use {PINNED}"):
            diffusers_engine.load(Hub.NAME, device="cpu")
        assert hub.asked == [f"/api/models/{Hub.NAME}/revision/main"]


def test_a_pinned_hub_model_is_loaded_from_its_commit_without_what_is_not_needed(foreign: Path, tmp_path: Path) -> None:
    unneeded = [
        "transformer/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.bin",
        "all.safetensors",
    ]
    for name in [*unneeded, "transformer/own.py"]:
        (foreign / name).touch()
    with testing.hub(foreign, tmp_path / "cache") as hub:
        ours = diffusers_engine.load(PINNED, device="cpu").draw(PICTURE, lambda _: None)
        assert constants.is_offline_mode()
        fetched = {path.partition("/resolve/")[2] for path in hub.asked}
        assert f"{Hub.COMMIT}/transformer/diffusion_pytorch_model.safetensors" in fetched
        assert not any(path.endswith((*unneeded, ".py")) for path in fetched)
    for name in unneeded:
        (foreign / name).unlink()
    assert diffusers_engine.load(str(foreign), device="cpu").draw(PICTURE, lambda _: None) == ours


def test_of_a_refused_hub_model_no_weights_are_fetched(foreign: Path, tmp_path: Path) -> None:
    (weights,) = (foreign / "vae").glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    with testing.hub(foreign, tmp_path / "cache") as hub:
        with pytest.raises(UnusableModel, match=r"vae/diffusion_pytorch_model\.bin is a pickle"):
            diffusers_engine.load(PINNED, device="cpu")
        assert not any(path.endswith((".bin", ".safetensors")) for path in hub.asked)


@pytest.mark.parametrize(("wish", "scale"), [(None, None), ("{}", None), ('{"guidance_scale": 2.5}', 2.5)])
def test_the_models_own_guidance_scale_is_used(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, wish: str | None, scale: float | None
) -> None:
    file = foreign / "generation_config.json"
    file.unlink(missing_ok=True)
    if wish is not None:
        file.write_text(wish)
    engine = diffusers_engine.load(str(foreign), device="cpu")
    plain = type(engine._pipeline).__call__
    seen: list[float] = []

    def spy(pipeline: object, *, guidance_scale: float | None = None, **arguments: object) -> object:
        seen.append(guidance_scale)
        return plain(pipeline, **arguments)

    monkeypatch.setattr(type(engine._pipeline), "__call__", spy)
    engine.draw(PICTURE, lambda _: None)
    assert seen == [scale]
