"""The real engine with the tiny model."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import HfApi
from parley_inference_image import diffusers_engine
from parley_inference_image.engine import Engine
from parley_inference_image.errors import Stopped, UnusableModel
from parley_inference_image.job import Picture
from PIL import Image
from safetensors.torch import load_file

COMMIT = "0123456789" * 4
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


@pytest.fixture
def foreign(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be spoiled."""
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_other_than_safetensors_are_refused(foreign: Path, part: str) -> None:
    """The pickle holds the right weights: a loader that falls back to it would succeed."""
    (weights,) = (foreign / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else f"{weights.stem}.bin"
    torch.save(load_file(weights), weights.with_name(name))
    weights.unlink()
    with pytest.raises(UnusableModel):
        diffusers_engine.load(str(foreign), revision="main", device="cpu")


@pytest.mark.parametrize("place", ["pipeline", "part"])
def test_code_in_a_model_folder_is_not_run(foreign: Path, place: str) -> None:
    ran = foreign / "ran"
    code = f"""
import pathlib
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
pathlib.Path({str(ran)!r}).touch()
class Pipeline(StableDiffusionPipeline): pass
class Part(UNet2DConditionModel): pass
"""
    index = json.loads((foreign / "model_index.json").read_text())
    if place == "pipeline":
        (foreign / "own.py").write_text(code)
        index["_class_name"] = ["own", "Pipeline"]
    else:
        (foreign / "unet" / "own.py").write_text(code)
        index["unet"] = ["own", "Part"]
    (foreign / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnusableModel, match=r"own\.py"):
        diffusers_engine.load(str(foreign), revision="main", device="cpu")
    assert not ran.exists()


class Hub(BaseHTTPRequestHandler):
    """Knows one model, whose branch `main` is at COMMIT; keeps what it was asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        known = self.path == "/api/models/somebody/pictures/revision/main"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"id": "somebody/pictures", "sha": COMMIT}).encode() if known else b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    Hub.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = HfApi(endpoint=f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(diffusers_engine, "HfApi", lambda: at)
        yield Hub.asked
        server.shutdown()


def test_revision_of_a_hub_model_is_resolved_to_a_commit_and_that_is_loaded(
    hub: list[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, object]] = []
    real = DiffusionPipeline.from_pretrained

    def from_pretrained(source: str, **options: object) -> DiffusionPipeline:
        asked.append({"source": source} | options)
        del options["revision"]
        return real(str(tiny_model), **options)

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    diffusers_engine.load("somebody/pictures", revision="main", device="cpu")
    diffusers_engine.load("somebody/pictures", revision=COMMIT, device="cpu")
    assert [(options["source"], options["revision"]) for options in asked] == [("somebody/pictures", COMMIT)] * 2
    assert len(hub) == 1  # a commit needs no question
    assert COMMIT in "".join(capfd.readouterr())


def test_revision_that_the_hub_does_not_know_is_said(hub: list[str]) -> None:
    with pytest.raises(UnusableModel, match=r"somebody/pictures: .*404"):
        diffusers_engine.load("somebody/pictures", revision="gone", device="cpu")
    assert hub


@pytest.mark.parametrize("source", ["/nowhere/at/all", "."])
def test_unusable_models_say_why(source: str) -> None:
    with pytest.raises(UnusableModel, match=r"no such folder|model_index"):
        diffusers_engine.load(source, revision="main", device="cpu")
