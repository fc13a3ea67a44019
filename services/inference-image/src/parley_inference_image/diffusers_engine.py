"""The diffusers engine: the only module that imports torch and diffusers.

Importing it takes seconds, so it is imported in the thread that loads the model, after the server listens. What may be
loaded is decided here and in `parley_kit.hub`; diffusers gets a folder, reads safetensors only, and runs no code of it.
"""

from __future__ import annotations

import inspect
import io
import os
from pathlib import Path
from typing import Any

# Threads that wait sleep instead of spinning. On two cores that vLLM or anybody else uses too, torch's spinning made
# steps up to fifteen times slower (100 steps of the small model: 1.5 to 40 s; sleeping: 2.5 to 5 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from diffusers import DiffusionPipeline, pipelines  # AutoPipeline imports twice as long
from diffusers.utils import logging as diffusers_logging
from parley_kit import hub
from parley_kit.hub import UnusableModel
from PIL import ImageOps
from transformers.utils import logging as transformers_logging

from parley_inference_image.engine import OnStep
from parley_inference_image.job import Picture

_READ = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
_UNREAD = ("*/*.*.safetensors",)  # `model.fp16.safetensors`: variants that nobody asked for
_OWN = frozenset({"diffusers", "transformers"})
_NEEDED = ("prompt", "width", "height", "num_inference_steps", "generator", "callback_on_step_end")


class DiffusersEngine:
    """A loaded text-to-image pipeline."""

    def __init__(self, pipeline: Any, guidance_scale: float | None = None) -> None:
        self._pipeline = pipeline
        self._accepts = frozenset(inspect.signature(pipeline.__call__).parameters)
        missing = [name for name in _NEEDED if name not in self._accepts]
        if missing:
            raise UnusableModel(
                f"{type(pipeline).__name__} takes no {', '.join(missing)}: not a text-to-image pipeline"
            )
        self._pipeline.set_progress_bar_config(disable=True)
        self.size = _own_size(pipeline)
        self._patch = _patch(pipeline)
        self._fixed = {} if guidance_scale is None else {"guidance_scale": guidance_scale}

    def draw(self, picture: Picture, on_step: OnStep) -> bytes:
        """Draw and return a PNG. The noise is made on the CPU, so that it is the same on every device."""

        def after_step(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(index + 1)
            return tensors

        arguments: dict[str, Any] = {
            "prompt": picture.prompt,
            "width": self._whole(picture.width),
            "height": self._whole(picture.height),
            "num_inference_steps": picture.steps,
            "generator": torch.Generator("cpu").manual_seed(picture.seed),
            "callback_on_step_end": after_step,
            **self._fixed,
        }
        if picture.negative_prompt and "negative_prompt" in self._accepts:
            arguments["negative_prompt"] = picture.negative_prompt
        image = ImageOps.fit(self._pipeline(**arguments).images[0], (picture.width, picture.height))
        png = io.BytesIO()
        image.save(png, format="PNG")
        return png.getvalue()

    def _whole(self, pixels: int) -> int:
        """Return the least side that the pipeline draws and that holds so many pixels; the rest is cut off again."""
        return -(-pixels // self._patch) * self._patch


def load(model: str, *, device: str) -> DiffusersEngine:
    """Load a pipeline: a folder, or a hub model as `org/name@<commit>`. Raises UnusableModel."""
    target = _device(device)
    folder = _folder(model)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.bfloat16 if target.startswith("cuda") else torch.float32,
            **_absent(folder),
        ).to(target)
        guidance_scale = _guidance_scale(folder)
    except Exception as error:  # whatever a foreign folder makes the libraries raise
        raise UnusableModel(f"{model}: {error}") from error
    return DiffusersEngine(pipeline, guidance_scale)


def _folder(model: str) -> Path:
    """Return the folder to load; of a hub model, the small files are looked at before the weights are fetched."""
    folder = hub.fetch(model, ["*.json"])
    parts = _parts(model, folder)
    for part in parts:
        hub.check(model, folder, part if (folder / part).is_dir() else "")
    folder = hub.fetch(model, ["model_index.json", *(f"{part}/{kind}" for part in parts for kind in _READ)], _UNREAD)
    hub.stay_offline()
    return folder


def _parts(model: str, folder: Path) -> list[str]:
    """Return the names of the pipeline's parts, when all classes are diffusers' and transformers' own."""
    parts = []
    for name, value in hub.read_json(folder / "model_index.json").items():
        match value:
            case [str(library), *_] if name != "_ignore_files":
                # Any other library is a file of the model's, or whatever Python can import under that name.
                if name == "_class_name" or not (library in _OWN or hasattr(pipelines, library)):
                    what = f"{model}: model_index.json asks for code of the model's own ({name}: {value})"
                    raise UnusableModel(f"{what}, and that is never run")
                parts.append(name)
    return parts


def _guidance_scale(folder: Path) -> float | None:
    """Return what the model's generation_config.json wishes for (a file that language models have); None: nothing."""
    file = folder / "generation_config.json"
    wished = hub.read_json(file).get("guidance_scale") if file.exists() else None
    return None if wished is None else float(wished)


def _absent(folder: Path) -> dict[str, None]:
    """Return the parts that the model does without (Stable Diffusion 3's third text encoder): diffusers wants to be told."""
    index = hub.read_json(folder / "model_index.json")
    return {name: None for name, value in index.items() if value == [None, None]}


def _device(wish: str) -> str:
    if wish != "auto":
        return wish
    return "cuda" if torch.cuda.is_available() else "cpu"


def _own_size(pipeline: Any) -> tuple[int, int]:
    """Return the width and height that the model was made for: latent size x the scale of its decoder."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    sample = getattr(pipeline, "default_sample_size", None) or getattr(
        getattr(network, "config", None), "sample_size", None
    )
    scale = getattr(pipeline, "vae_scale_factor", None)
    if sample is None or scale is None:
        return 512, 512
    height, width = (sample, sample) if isinstance(sample, int) else (int(sample[0]), int(sample[1]))
    return width * scale, height * scale


def _patch(pipeline: Any) -> int:
    """Return what sides must be a multiple of, in pixels: transformers see patches of two by two latents or more."""
    scale = int(getattr(pipeline, "vae_scale_factor", 8))
    config = getattr(getattr(pipeline, "transformer", None), "config", None)
    return scale if config is None else scale * max(2, int(getattr(config, "patch_size", 1)))


# Progress bars and advice about optional packages do not belong in a service's log.
for _noise in (diffusers_logging, transformers_logging):
    _noise.set_verbosity_error()
    _noise.disable_progress_bar()

# Same seed, same bytes: without these, CUDA may choose another algorithm from run to run.
torch.backends.cudnn.benchmark = False
torch.backends.cudnn.deterministic = True
