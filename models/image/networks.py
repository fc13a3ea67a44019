"""The parts of parley-nano-image: the shape of Stable Diffusion 3, four million parameters."""

from __future__ import annotations

import json
import math
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import JointAttnProcessor2_0
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.embeddings import get_2d_sincos_pos_embed_from_grid
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from image.scenes import hint, sample, say

LATENT_SIDE = 16  # the picture has eight times as many pixels
LATENT_CHANNELS = 8
TEXT_SHAPES = ((128, 3), (64, 2))  # width and layers of the two text encoders
TEXT_WIDTH = sum(width for width, _ in TEXT_SHAPES)
PROMPT_TOKENS = 28
MOST_PATCHES = 64
ABSENT = 256  # tokens that stand for the third text encoder of Stable Diffusion 3, which is not here
END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer() -> CLIPTokenizer:
    """Return CLIP's tokenizer with every word that scenes are told in as one token; other words are told in bytes."""
    picker = random.Random(1)
    sentences = []
    for _ in range(20_000):
        scene = sample(picker)
        sentences += [say(scene, picker), hint(scene, picker)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(
        vocab_size=2000, end_of_word_suffix=END_OF_WORD, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(sentences, trainer)
    merges = [tuple(pair) for pair in json.loads(inner.to_str())["model"]["merges"]]
    words = [*alphabet, *(letter + END_OF_WORD for letter in alphabet)]
    words = list(dict.fromkeys([*words, *("".join(pair) for pair in merges), START, END]))
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary, merged = Path(scratch, "vocab.json"), Path(scratch, "merges.txt")
        vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}))
        merged.write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
        return CLIPTokenizer(str(vocabulary), str(merged), model_max_length=PROMPT_TOKENS)


class Text(nn.Module):  # type: ignore[misc] # torch's types are not read
    """The pipeline's two text encoders: a larger and a smaller one, whose outputs stand side by side."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(_text_encoder(words, width, layers) for width, layers in TEXT_SHAPES)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return (batch, PROMPT_TOKENS, TEXT_WIDTH) of the layers before the last, (batch, TEXT_WIDTH) of whole sentences."""
        said = [encoder(tokens, output_hidden_states=True) for encoder in self.encoders]
        return torch.cat([one.hidden_states[-2] for one in said], -1), torch.cat([one.text_embeds for one in said], -1)


def _text_encoder(words: int, width: int, layers: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=PROMPT_TOKENS,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
            pad_token_id=words - 1,
            attn_implementation="eager",
        )
    )


def transformer() -> SD3Transformer2DModel:
    """Return the denoiser of latents (batch, 2 x LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)."""
    made = SD3Transformer2DModel(
        sample_size=LATENT_SIDE,
        patch_size=2,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=TEXT_WIDTH,
        pos_embed_max_size=LATENT_SIDE // 2,
    )
    with torch.no_grad():  # begin with positions that are heard above the noise: layouts are learnt sooner
        made.pos_embed.proj.weight *= 0.15
    return made


def roomy(small: SD3Transformer2DModel) -> SD3Transformer2DModel:
    """Return a denoiser that takes pictures of up to MOST_PATCHES patches a side: positions go on beyond those learnt."""
    config = {name: value for name, value in small.config.items() if not name.startswith("_")}
    made = SD3Transformer2DModel(**{**config, "pos_embed_max_size": MOST_PATCHES})
    learnt = LATENT_SIDE // small.config.patch_size
    places = torch.arange(MOST_PATCHES) - (MOST_PATCHES - learnt) // 2.0
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"))
    width = small.pos_embed.pos_embed.shape[-1]
    state = small.state_dict()
    state["pos_embed.pos_embed"] = get_2d_sincos_pos_embed_from_grid(width, grid, output_type="pt").float()[None]
    made.load_state_dict(state)
    return made


class OneForMany(JointAttnProcessor2_0):  # type: ignore[misc] # diffusers' types are not read
    """Attention in which the last token counts as many equal ones.

    Stable Diffusion 3 without its third text encoder appends ABSENT equal tokens to a sentence, three quarters of the work.
    Adding the logarithm of their number to the logit of one gives the same attention, so training uses one.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: Any,
    ) -> Any:
        """Return what JointAttnProcessor2_0 returns: (batch, patches, width), and (batch, tokens, width) of the text."""
        context = encoder_hidden_states
        patches = hidden_states.shape[1]
        projections = ((attn.to_q, attn.add_q_proj), (attn.to_k, attn.add_k_proj), (attn.to_v, attn.add_v_proj))
        query, key, value = (
            torch.cat([of_patches(hidden_states), of_text(context)], 1).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for of_patches, of_text in projections
        )
        weight = torch.zeros(key.shape[2], dtype=query.dtype, device=query.device)
        weight[-1] = math.log(ABSENT)
        logits = (query / math.sqrt(query.shape[-1])) @ key.transpose(2, 3) + weight
        found = logits.softmax(-1).to(value.dtype) @ value  # on a CPU faster backwards than the fused attention
        found = found.transpose(1, 2).flatten(2)
        of_context = found[:, patches:] if attn.context_pre_only else attn.to_add_out(found[:, patches:])
        return attn.to_out[0](found[:, :patches]), of_context


def vae(channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """Return the autoencoder of pictures (batch, 3, 8 x LATENT_SIDE, 8 x LATENT_SIDE), values -1 to 1."""
    made = AutoencoderKL(
        block_out_channels=(16, 24, 48, 64),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        layers_per_block=1,
        norm_num_groups=2,  # with one channel a group the norms would take the colour away
        mid_block_add_attention=False,
        scaling_factor=1.0,  # the training folds it into the weights
        shift_factor=0.0,
    )
    with torch.no_grad():  # begin with little noise in the latents, or most of the training goes into getting rid of it
        made.quant_conv.weight[channels:] = 0
        made.quant_conv.bias[channels:] = -5
    return made


def widened(narrow: AutoencoderKL) -> AutoencoderKL:
    """Return an autoencoder whose latents are those of another, twice: diffusers inpaints with sixteen channels only."""
    wide = vae(2 * LATENT_CHANNELS)
    state = narrow.state_dict()
    mean, deviation = slice(0, LATENT_CHANNELS), slice(LATENT_CHANNELS, None)
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
        state[name] = torch.cat([state[name][part] for part in (mean, mean, deviation, deviation)])
    for name in ("quant_conv.weight", "quant_conv.bias"):
        rows = torch.cat([state[name][part] for part in (mean, mean, deviation, deviation)])
        if name.endswith("weight"):
            columns = (
                rows[:, mean],
                torch.zeros_like(rows[:, mean]),
                rows[:, deviation],
                torch.zeros_like(rows[:, mean]),
            )
            rows = torch.cat(columns, 1)
        state[name] = rows
    state["post_quant_conv.weight"] = torch.cat([state["post_quant_conv.weight"] / 2] * 2, 1).repeat(2, 1, 1, 1)
    state["post_quant_conv.bias"] = state["post_quant_conv.bias"].repeat(2)
    state["decoder.conv_in.weight"] = torch.cat([state["decoder.conv_in.weight"] / 2] * 2, 1)
    wide.load_state_dict(state)
    return wide


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Return the schedule of rectified flow; the shift spends most steps where the noise leaves only the layout open."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0)
