"""Trains parley-nano-image from nothing: `python models/image/train.py`, or `make models` for both models.

Six stages, each resumable: the text encoders learn what sentences say and roughly how that looks, the autoencoder to
pack pictures into latents, then pictures are packed once, and the denoiser learns to make latents from noise and
sentences: first mostly layouts, then mostly edges and plain colours, at last from whole sentences only. It learns fastest from text encoders that know the
layout already and stay as they are.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is downloaded; say so before the libraries look
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from training import Stage, options, plot, warm_up_and_fall

from image import networks
from image.evaluate import GUIDANCE, measure, sheet
from image.scenes import BACKGROUNDS, OBJECT_COLOURS, PLACES, SHAPES, SIDE, SIZES, Scene, draw, hint, sample, say

NAME = "parley-nano-image"
TEXT_STEPS, TEXT_BATCH = 1200, 64
VAE_STEPS, VAE_WHOLE_STEPS, VAE_BATCH, CROP = 3600, 400, 16, 64
PICTURES = 20_000
THUMBNAIL = networks.LATENT_SIDE  # pixels of a side
PATCHES = THUMBNAIL // 2  # of a side, as the denoiser's
STEPS, FINER_STEPS, WHOLE_STEPS, BATCH = 12_000, 5000, 700, 32
MEASURE_EVERY, MEASURED = 2500, 40
PAINTED = 3.0  # weight of the thumbnail's error beside the facts'
LAYOUT = 0.75  # from this noise on a picture is decided by its sentence
LAYOUT_PART, FINER_LAYOUT_PART = 0.6, 0.3  # the part of such noise in a batch
RATE, FINER_RATE, WHOLE_RATE = 1e-3, 6e-4, 3e-4  # of learning, at its height
NO_TEXT = 0.1  # of the sentences are left out, for guidance
HINTS = 0.1  # are a few words only; none at the end, for "a red circle" is a whole sentence too


def main() -> None:
    """Train, or go on where an earlier run was stopped; write the pipeline, its plot and examples."""
    told = options(NAME)
    began = time.monotonic()
    Training(told.work, told.device).run(told.out)
    print(f"wrote {told.out} after {(time.monotonic() - began) / 60:.0f} minutes")


class Training:
    """The networks and the stages that train them."""

    def __init__(self, work: Path, where: torch.device) -> None:
        torch.manual_seed(1)
        self._work, self._device = work, where
        self._tokenizer = networks.tokenizer()
        self._text = networks.Text(len(self._tokenizer)).to(where)
        self._reader = _Reader().to(where)
        self._vae = networks.vae().to(where)
        self._transformer = networks.transformer().to(where)
        self._painter = _Painter().to(where)
        self._smooth = copy.deepcopy(self._transformer)
        self._stages: list[Stage] = []

    def run(self, out: Path) -> None:
        """Run all stages and write the pipeline."""
        self._train_text()
        self._train_vae()
        latents, scenes = self._pack()
        self._train_transformer("transformer", latents, scenes, STEPS, RATE, LAYOUT_PART, HINTS)
        self._train_transformer("finer", latents, scenes, FINER_STEPS, FINER_RATE, FINER_LAYOUT_PART, HINTS)
        self._train_transformer("whole", latents, scenes, WHOLE_STEPS, WHOLE_RATE, LAYOUT_PART, 0)
        pipeline = self._pipeline()
        pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
        (out / "generation_config.json").write_text(json.dumps({"guidance_scale": GUIDANCE}) + "\n")
        plot(out / "training.png", self._stages)
        sheet(pipeline.to(torch.float32)).save(out / "examples.png")

    def _stage(self, name: str, total: int, networks: list[nn.Module], optimizer: torch.optim.Optimizer) -> Stage:
        parts: list[Any] = [*networks, optimizer]

        def restore(state: dict[str, Any]) -> None:
            for part, saved in zip(parts, state["parts"], strict=True):
                part.load_state_dict(saved)

        stage = Stage(
            self._work, name, total, state=lambda: {"parts": [part.state_dict() for part in parts]}, restore=restore
        )
        self._stages.append(stage)
        return stage

    def _tokens(self, sentences: list[str]) -> Tensor:
        return self._tokenizer(
            sentences, padding="max_length", max_length=networks.PROMPT_TOKENS, truncation=True, return_tensors="pt"
        ).input_ids.to(self._device)

    def _train_text(self) -> None:
        learning = [self._text, self._reader, self._painter]
        optimizer = _optimizer(learning)
        stage = self._stage("text", TEXT_STEPS, learning, optimizer)
        for step in stage.steps():
            warm_up_and_fall(optimizer, RATE, step, TEXT_STEPS)
            picker = random.Random(f"text {step}")
            scenes = _learnt(picker, TEXT_BATCH)
            said, whole = self._text(self._tokens([say(scene, picker) for scene in scenes]))
            wanted = torch.tensor([_facts(scene) for scene in scenes], device=self._device)
            losses, understood = [], []
            for answers in self._reader(said, whole):
                losses += [functional.cross_entropy(answer, wanted[:, fact]) for fact, answer in enumerate(answers)]
                right = torch.stack([answer.argmax(1) == wanted[:, fact] for fact, answer in enumerate(answers)])
                understood.append(right.all(0).float().mean().item())
            pictures = _tensor([draw(scene, picker) for scene in scenes]).to(self._device)
            painted = ((self._painter(said) - _thumbnails(pictures)) ** 2).mean()
            loss = torch.stack(losses).mean() + PAINTED * painted
            _learn(loss, optimizer, self._text)
            stage.log(loss=loss.item(), painted=painted.item(), in_tokens=understood[0], in_the_whole=understood[1])
        self._text.requires_grad_(False)

    def _train_vae(self) -> None:
        optimizer = torch.optim.AdamW(self._vae.parameters(), 2e-3, weight_decay=0)
        total = VAE_STEPS + VAE_WHOLE_STEPS
        stage = self._stage("vae", total, [self._vae], optimizer)
        for step in stage.steps():
            warm_up_and_fall(optimizer, 2e-3, step, total)
            picker = random.Random(f"vae {step}")
            scenes = _learnt(picker, VAE_BATCH if step < VAE_STEPS else VAE_BATCH // 2)
            pictures = _tensor([draw(scene, picker) for scene in scenes]).to(self._device)
            if step < VAE_STEPS:  # a quarter of the work, and edges are what is hard
                left, top = picker.randrange(8, SIDE - CROP - 8), picker.randrange(8, SIDE - CROP - 8)
                pictures = pictures[:, :, top : top + CROP, left : left + CROP]
            with torch.autocast(self._device.type, torch.bfloat16):
                packed = self._vae.encode(pictures).latent_dist
                noise = torch.randn(packed.mean.shape, generator=torch.Generator().manual_seed(step)).to(self._device)
                again = self._vae.decode(packed.mean + packed.std * noise).sample
            error = (again.float() - pictures).abs()
            loss = error.mean() + (error**2).mean() + 1e-5 * packed.kl().mean() / packed.mean[0].numel()
            _learn(loss, optimizer, self._vae)
            stage.log(loss=loss.item())
        self._vae.requires_grad_(False)

    @torch.no_grad()  # type: ignore[untyped-decorator] # torch's types are not read
    def _pack(self) -> tuple[Tensor, list[Scene]]:
        """Return latents of many pictures, normal per channel, and their scenes; normalizing becomes the VAE's own."""
        saved = self._work / "latents.pt"
        picker = random.Random("pictures")
        scenes = _learnt(picker, PICTURES)
        if saved.exists():
            latents = torch.load(saved, weights_only=True)
        else:
            packed = []
            for first in range(0, PICTURES, 100):
                pictures = _tensor([draw(scene, picker) for scene in scenes[first : first + 100]])
                packed.append(self._vae.encode(pictures.to(self._device)).latent_dist.mean.cpu())
                if first % 4000 == 0:
                    print(f"pictures: {first} of {PICTURES} packed", flush=True)
            latents = torch.cat(packed)
            torch.save(latents, saved)
        mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        _normalize(self._vae, mean.to(self._device), std.to(self._device))
        return (latents - mean[:, None, None]) / std[:, None, None], scenes

    def _train_transformer(
        self,
        name: str,
        latents: Tensor,
        scenes: list[Scene],
        steps: int,
        rate: float,
        layout_part: float,
        hints: float,
    ) -> None:
        optimizer = _optimizer([self._transformer])
        stage = self._stage(name, steps, [self._transformer, self._smooth], optimizer)
        absent = torch.zeros(BATCH, 1, networks.TEXT_WIDTH, device=self._device)
        usual = self._transformer.attn_processors
        self._transformer.set_attn_processor(networks.OneForMany())
        for step in stage.steps():
            warm_up_and_fall(optimizer, rate, step, steps)
            picker, noise_seed = random.Random(f"{name} {step}"), torch.Generator().manual_seed(step)
            chosen = [picker.randrange(PICTURES) for _ in range(BATCH)]
            clean = torch.cat([latents[chosen]] * 2, 1)
            noise = torch.randn(clean.shape, generator=noise_seed)
            levels = _levels(noise_seed, layout_part)
            noisy = torch.lerp(clean, noise, levels[:, None, None, None])
            tokens = self._tokens([_told(scenes[number], picker, hints) for number in chosen])
            with torch.autocast(self._device.type, torch.bfloat16):
                said, whole = self._text(tokens)
                velocity = self._transformer(
                    noisy.to(self._device),
                    encoder_hidden_states=torch.cat([said, absent], 1),
                    pooled_projections=whole,
                    timestep=1000 * levels.to(self._device),
                ).sample
            losses = ((velocity.float() - (noise - clean).to(self._device)) ** 2).mean((1, 2, 3))
            _learn(losses.mean(), optimizer, self._transformer)
            _follow(self._smooth, self._transformer, min(0.999, (step + 1) / (step + 10)))
            layout = losses[levels >= LAYOUT].mean().item()
            stage.log(loss=losses.mean().item(), loss_of_layout=layout)
            if (step + 1) % MEASURE_EVERY == 0:
                stage.log(**measure(self._pipeline(), MEASURED).parts())
        self._transformer.set_attn_processor(usual)

    def _pipeline(self) -> StableDiffusion3Pipeline:
        made = StableDiffusion3Pipeline(
            vae=networks.widened(self._vae),
            text_encoder=self._text.encoders[0],
            tokenizer=self._tokenizer,
            text_encoder_2=self._text.encoders[1],
            tokenizer_2=self._tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
            transformer=networks.roomy(self._smooth),
            scheduler=networks.scheduler(),
        )
        made.set_progress_bar_config(disable=True)
        return made


_CHOICES = {
    "shape": [*SHAPES, ""],
    "colour": [*OBJECT_COLOURS, ""],
    "size": [*SIZES, ""],
    "place": [*PLACES, ""],
}


def _facts(scene: Scene) -> list[int]:
    """Return what a scene says: shape, colour, size and place of the first and the second thing, the background."""
    facts = [BACKGROUNDS.index(scene.background)]
    for number in range(2):
        for name, choices in _CHOICES.items():
            said = getattr(scene.things[number], name) if number < len(scene.things) else ""
            facts.append(choices.index(said))
    return facts


class _Reader(nn.Module):  # type: ignore[misc] # likewise
    """Reads facts from encoded sentences, from tokens by attention and from the whole; thrown away after its stage."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [len(BACKGROUNDS), *(len(choices) for _ in range(2) for choices in _CHOICES.values())]
        width = networks.TEXT_WIDTH
        self.queries = nn.Parameter(torch.randn(len(sizes), width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.of_tokens = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        self.of_whole = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def forward(self, said: Tensor, whole: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return (batch, choices) of logits per fact, from tokens and from the whole."""
        read, _ = self.attention(self.queries.expand(len(said), -1, -1), said, said, need_weights=False)
        return [head(read[:, fact]) for fact, head in enumerate(self.of_tokens)], [
            head(whole) for head in self.of_whole
        ]


class _Painter(nn.Module):  # type: ignore[misc] # likewise
    """Paints thumbnails of what encoded sentences say, a patch at a time as the denoiser; thrown away likewise."""

    def __init__(self) -> None:
        super().__init__()
        width = networks.TEXT_WIDTH
        self.queries = nn.Parameter(torch.randn(PATCHES**2, width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        pixels = 3 * (THUMBNAIL // PATCHES) ** 2
        self.colours = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 256), nn.GELU(), nn.Linear(256, pixels))

    def forward(self, said: Tensor) -> Tensor:
        """Return what `_thumbnails` returns of a picture of each sentence."""
        queries = self.queries.expand(len(said), -1, -1)
        read, _ = self.attention(queries, said, said, need_weights=False)
        painted: Tensor = self.colours(queries + read)
        return painted


def _thumbnails(pictures: Tensor) -> Tensor:
    """Return THUMBNAIL pixels a side of (batch, 3, SIDE, SIDE) as (batch, patches, values of a patch)."""
    small = functional.avg_pool2d(pictures, SIDE // THUMBNAIL)
    return functional.unfold(small, THUMBNAIL // PATCHES, stride=THUMBNAIL // PATCHES).transpose(1, 2)


def _learnt(picker: random.Random, count: int) -> list[Scene]:
    """Return scenes that are not held out."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = sample(picker)
        if not scene.held_out:
            scenes.append(scene)
    return scenes


def _levels(generator: torch.Generator, layout_part: float) -> Tensor:
    """Return noise levels, (BATCH,) of 0 to 1. A part is so noisy that only the sentence tells what is drawn where."""
    chance = torch.rand(BATCH, generator=generator)
    layout = 1 - (1 - LAYOUT) * chance**2
    return torch.where(torch.arange(BATCH) < BATCH * layout_part, layout, torch.rand(BATCH, generator=generator))


def _told(scene: Scene, picker: random.Random, hints: float) -> str:
    chance = picker.random()
    if chance < NO_TEXT:
        return ""
    return hint(scene, picker) if chance < NO_TEXT + hints else say(scene, picker)


def _tensor(pictures: Iterable[Image.Image]) -> Tensor:
    """Return (batch, 3, height, width), -1 to 1."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2) / 127.5 - 1


def _optimizer(learning: list[nn.Module]) -> torch.optim.AdamW:
    parameters = [parameter for network in learning for parameter in network.parameters()]
    return torch.optim.AdamW(parameters, RATE, weight_decay=0.01)


def _learn(loss: Tensor, optimizer: torch.optim.Optimizer, *learning: nn.Module) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for network in learning:
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


@torch.no_grad()  # type: ignore[untyped-decorator] # torch's types are not read
def _follow(smooth: nn.Module, network: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(smooth.parameters()), list(network.parameters()), 1 - decay)


def _normalize(vae: Any, mean: Tensor, std: Tensor) -> None:
    """Make latents normal per channel, by the two 1x1 convolutions around them."""
    channels = len(mean)
    packing, unpacking = vae.quant_conv, vae.post_quant_conv
    packing.bias[:channels] = (packing.bias[:channels] - mean) / std
    packing.weight[:channels] /= std[:, None, None, None]
    packing.bias[channels:] -= 2 * std.log()  # of the logarithm of the variance
    unpacking.bias += (unpacking.weight[:, :, 0, 0] * mean).sum(1)
    unpacking.weight *= std[None, :, None, None]


if __name__ == "__main__":
    main()
