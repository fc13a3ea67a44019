"""Trains parley-nano-chat from nothing: `python models/chat/train.py`, or `make models` for both models."""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is downloaded; say so before the libraries look
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor, nn
from torch.nn import functional
from training import Stage, options, plot, warm_up_and_fall
from transformers import PreTrainedTokenizerFast

from chat import network
from chat.evaluate import measure
from chat.text import Dialogue, dialogue, everything

NAME = "parley-nano-chat"
STEPS, BATCH = 5200, 2560  # tokens, padding included
BUCKET = 192  # dialogues that are sorted by length together, so that little is padded
RATE = 1.5e-3
MEASURE_EVERY, MEASURED = 500, 100
IGNORED = -100
Encoded = list[tuple[int, bool]]  # tokens, each with whether the model must learn to write it
Batch = list[Encoded]


def main() -> None:
    """Train, or go on where an earlier run was stopped; write the model and its plot."""
    told = options(NAME)
    began, where = time.monotonic(), told.device
    torch.manual_seed(1)
    words = network.tokenizer(everything())
    made = network.model(words).to(where)
    made.set_attn_implementation("eager")  # on a CPU faster backwards than the fused attention
    optimizer = torch.optim.AdamW(_groups(made), RATE, betas=(0.9, 0.98))

    def restore(state: dict[str, Any]) -> None:
        made.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    stage = Stage(
        told.work,
        "chat",
        STEPS,
        state=lambda: {"model": made.state_dict(), "optimizer": optimizer.state_dict()},
        restore=restore,
    )
    batches: Iterator[Batch] | None = None
    for step in stage.steps():
        batches = batches or itertools.islice(_batches(words), step, None)
        warm_up_and_fall(optimizer, RATE, step, STEPS)
        tokens, wanted = (part.to(where) for part in _padded(next(batches), words.pad_token_id))
        learnt = wanted[:, 1:] != IGNORED
        with torch.autocast(where.type, torch.bfloat16):
            logits = made.lm_head(made.model(tokens).last_hidden_state[:, :-1][learnt])
        loss = functional.cross_entropy(logits.float(), wanted[:, 1:][learnt])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        stage.log(loss=loss.item())
        if (step + 1) % MEASURE_EVERY == 0:
            stage.log(**measure(made, words, MEASURED).parts())
    words.save_pretrained(told.out)
    made.to(torch.bfloat16).save_pretrained(told.out, safe_serialization=True)
    plot(told.out / "training.png", [stage])
    print(f"wrote {told.out} after {(time.monotonic() - began) / 60:.0f} minutes")


def _groups(made: nn.Module) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in made.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in made.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def encode(told: Dialogue, words: PreTrainedTokenizerFast) -> Encoded:
    """Return a dialogue's tokens; to be learnt is what assistants say, its end included."""
    tools = list(told.tools) or None
    text: str = words.apply_chat_template(list(told.messages), tools=tools, tokenize=False)
    encoded: Encoded = []
    opening = f"{network.START}assistant\n"
    for number, piece in enumerate(text.split(opening)):
        if number == 0:
            encoded += [(token, False) for token in words.encode(piece)]
            continue
        said, _, rest = piece.partition(network.END)
        encoded += [(token, False) for token in words.encode(opening)]
        encoded += [(token, True) for token in words.encode(said + network.END)]
        encoded += [(token, False) for token in words.encode(rest)]
    if told.cut:
        end = max(place for place, (token, _) in enumerate(encoded) if token == words.eos_token_id)
        del encoded[end:]
    return encoded[: network.WINDOW]


def _batches(words: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """Yield batches without end, always the same ones; dialogues in a batch are of about the same length."""
    for number in itertools.count():
        picker = random.Random(f"chat {number}")
        batches: list[Batch] = [[]]
        for encoded in sorted((encode(dialogue(picker), words) for _ in range(BUCKET)), key=len):
            if len(encoded) * (len(batches[-1]) + 1) > BATCH and batches[-1]:
                batches.append([])
            batches[-1].append(encoded)
        picker.shuffle(batches)
        yield from batches


def _padded(batch: Batch, pad: int) -> tuple[Tensor, Tensor]:
    """Return tokens and what is to be learnt, both (batch, longest)."""
    longest = max(len(encoded) for encoded in batch)
    tokens = torch.full((len(batch), longest), pad)
    wanted = torch.full((len(batch), longest), IGNORED)
    for row, encoded in enumerate(batch):
        for column, (token, learnt) in enumerate(encoded):
            tokens[row, column] = token
            if learnt:
                wanted[row, column] = token
    return tokens, wanted


if __name__ == "__main__":
    main()
