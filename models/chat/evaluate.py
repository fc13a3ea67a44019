"""Measures a chat model on what its training never showed. `python models/chat/evaluate.py [FOLDER]`.

An answer is right when it is the wanted one word for word: greedy decoding, ended by the model itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast

from chat import text
from chat.network import CALL, CALLED, END
from chat.text import Dialogue

BATCH = 64
LONGEST = 96  # tokens of an answer
SUMS = 100


@dataclass(frozen=True)
class Case:
    """What is asked, and the one right answer (for tools, the call)."""

    asked: Dialogue
    wanted: str


@dataclass
class Measures:
    """Answers that were right, of all, per kind; `stopped` counts those that the model ended itself."""

    right: dict[str, list[bool]] = field(default_factory=dict)
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    def parts(self) -> dict[str, float]:
        """Return the parts that are right, 0 to 1."""
        return {kind: sum(rights) / len(rights) for kind, rights in self.right.items()}


def cases() -> Iterator[tuple[str, Case]]:
    """Yield each held-out case with its kind: paraphrases, sums, names, tools."""
    for question, answer in text.held_out():
        yield "paraphrases", Case(_ask(question[:1].upper() + question[1:]), answer)
    for question, answer in text.sums_held_out(SUMS):
        yield "sums", Case(_ask(question), answer)
    picker = random.Random("names held out")
    for name in text.NAMES_HELD_OUT:
        for question in picker.sample(text.ASKED_HELD_OUT, 2):
            topic = picker.choice(text.topics())
            between = [_user(topic.held_out[0]), _assistant(topic.answer)] if picker.random() < 0.5 else []
            told = [_user(f"Hello, my name is {name}."), _assistant(text.greeting(name))]
            yield "names", Case(Dialogue((*told, *between, _user(question))), text.named(name))
    for question, name, arguments in text.TOOLS_HELD_OUT:
        call = json.dumps({"name": name, "arguments": arguments})
        tools = tuple(text.TOOLS.values())
        yield "tools", Case(Dialogue((_user(question),), tools), f"{CALL}\n{call}\n{CALLED}")


def measure(model: Any, words: PreTrainedTokenizerFast, most: int = 1000) -> Measures:
    """Ask at most so many of each kind, evenly chosen."""
    chosen: list[tuple[str, Case]] = []
    kinds: dict[str, list[Case]] = {}
    for kind, case in cases():
        kinds.setdefault(kind, []).append(case)
    for kind, all_ in kinds.items():
        chosen += [(kind, case) for case in all_[:: max(1, len(all_) // most)]]
    answers = answer([case.asked for _, case in chosen], model, words)
    measures = Measures()
    for (kind, case), (said, stopped) in zip(chosen, answers, strict=True):
        right = stopped and " ".join(said.split()) == " ".join(case.wanted.split())
        measures.right.setdefault(kind, []).append(right)
        measures.right.setdefault("stopped", []).append(stopped)
        if not right:
            measures.wrong.append((str(case.asked.messages[-1]["content"]), said, case.wanted))
    return measures


@torch.no_grad()  # type: ignore[untyped-decorator] # torch's types are not read
def answer(asked: list[Dialogue], model: Any, words: PreTrainedTokenizerFast) -> list[tuple[str, bool]]:
    """Return answers, each with whether the model ended it by itself."""
    greedy = GenerationConfig(
        max_new_tokens=LONGEST, do_sample=False, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id
    )
    answers: list[tuple[str, bool]] = []
    for first in range(0, len(asked), BATCH):
        prompts = [
            words.apply_chat_template(
                list(told.messages), tools=list(told.tools) or None, add_generation_prompt=True, tokenize=False
            )
            for told in asked[first : first + BATCH]
        ]
        rows = words(prompts, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
        made = model.generate(**rows.to(model.device), generation_config=greedy)
        for tokens in made[:, rows.input_ids.shape[1] :].tolist():
            said, stopped, _ = words.decode(tokens).partition(END)
            answers.append((said, bool(stopped)))
    return answers


def _ask(question: str) -> Dialogue:
    return Dialogue((_user(question),))


def _user(content: str) -> text.Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> text.Message:
    return {"role": "assistant", "content": content}


def main() -> None:
    """Print the measures of a folder, and what it got wrong."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - not needed while training

    parser = argparse.ArgumentParser(description="Measure a chat model on held-out questions.")
    default = Path(__file__).resolve().parent.parent / "parley-nano-chat"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--wrong", action="store_true", help="show what it got wrong")
    arguments = parser.parse_args()
    words = AutoTokenizer.from_pretrained(arguments.folder)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, use_safetensors=True, dtype=torch.float32)
    began = time.monotonic()
    measures = measure(model, words)
    for kind, part in measures.parts().items():
        print(f"{kind:12} {part:6.1%} of {len(measures.right[kind])}")
    print(f"measured in {time.monotonic() - began:.0f} s")
    if arguments.wrong:
        for question, said, wanted in measures.wrong:
            print(f"\n? {question}\n  said   {said}\n  wanted {wanted}")


if __name__ == "__main__":
    main()
