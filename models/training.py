"""What both trainings share: checkpoints, progress, the log of losses and measures, its plot."""

from __future__ import annotations

import argparse
import csv
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent
CHECKPOINT_SECONDS = 60
REPORT_SECONDS = 15


@dataclass(frozen=True)
class Options:
    """What a trainer is told: the folder that gets the model, the one for checkpoints, the device."""

    out: Path
    work: Path
    device: torch.device


def options(name: str) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=f"Train {name} from nothing. A training that was interrupted goes on from its last checkpoint."
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / name, help="folder that gets the model (default: %(default)s)"
    )
    work = ROOT.parent / ".parley" / "training" / name
    parser.add_argument("--work", type=Path, default=work, help="folder for checkpoints (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto (CUDA when there is one), cpu or cuda")
    parser.add_argument("--anew", action="store_true", help="forget an earlier training's checkpoints")
    told = parser.parse_args()
    if told.anew:
        shutil.rmtree(told.work, ignore_errors=True)
    best = "cuda" if torch.cuda.is_available() else "cpu"
    return Options(told.out, told.work, torch.device(best if told.device == "auto" else told.device))


def warm_up_and_fall(optimizer: torch.optim.Optimizer, most: float, step: int, total: int) -> None:
    """Set the learning rate: up over a hundred steps, then down as a cosine to a fiftieth."""
    rate = most * min(1, (step + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / total)) / 2)
    for group in optimizer.param_groups:
        group["lr"] = rate


class Stage:
    """One resumable loop: `for step in stage.steps(): …; stage.log(loss=…)`.

    Whatever `state` returns (a dict of state dicts and tensors) is written to the folder once a minute, and given to
    `restore` when a later run finds it there. Randomness must come from the number of the step.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        total: int,
        *,
        state: Callable[[], dict[str, Any]],
        restore: Callable[[dict[str, Any]], None],
    ) -> None:
        self.name, self.total = name, total
        self._path = folder / f"{name}.pt"
        self._log_path = folder / f"{name}.csv"
        self._state, self._restore = state, restore
        self._rows: list[dict[str, float]] = []
        self._recent: dict[str, list[float]] = {}
        self._step = 0
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> Iterator[int]:
        """Yield the steps that are left; the last state is saved at the end."""
        if self._path.exists():
            saved = torch.load(self._path, weights_only=True, map_location="cpu")
            self._restore(saved["state"])
            self._step, self._rows = saved["step"], saved["rows"]
            print(f"{self.name}: goes on at step {self._step} of {self.total}", flush=True)
        first, began = self._step, time.monotonic()
        saved_at = reported_at = began
        while self._step < self.total:
            yield self._step
            self._step += 1
            now = time.monotonic()
            if now - reported_at > REPORT_SECONDS:
                reported_at = now
                left = (now - began) / (self._step - first) * (self.total - self._step)
                self._report(left)
            if now - saved_at > CHECKPOINT_SECONDS:
                saved_at = now
                self._save()
        if self._step > first:
            self._report(0)
            self._save()

    def log(self, **values: float) -> None:
        """Note values of the current step; what comes between two reports is averaged."""
        for name, value in values.items():
            self._recent.setdefault(name, []).append(value)

    @property
    def rows(self) -> list[dict[str, float]]:
        """What was reported so far: step and averages."""
        return self._rows

    def _report(self, seconds_left: float) -> None:
        row = {"step": float(self._step)} | {name: sum(all_) / len(all_) for name, all_ in self._recent.items()}
        self._recent.clear()
        self._rows.append(row)
        values = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name != "step")
        print(f"{self.name}: step {self._step} of {self.total}  {values}  {seconds_left / 60:.1f} min left", flush=True)

    def _save(self) -> None:
        new = self._path.with_suffix(".new")
        torch.save({"state": self._state(), "step": self._step, "rows": self._rows}, new)
        new.replace(self._path)
        with self._log_path.open("w", newline="") as file:
            names = list(dict.fromkeys(name for row in self._rows for name in row))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)


def plot(path: Path, stages: list[Stage]) -> None:
    """Draw each stage's values over its steps into one PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - only at the end of a training

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(len(stages), 2, figsize=(11, 3.2 * len(stages)), squeeze=False)
    for row, stage in zip(axes, stages, strict=True):
        for axis, losses in zip(row, (True, False), strict=True):
            for name in dict.fromkeys(name for values in stage.rows for name in values if name != "step"):
                if ("loss" in name) == losses:
                    points = [(values["step"], values[name]) for values in stage.rows if name in values]
                    axis.plot(*zip(*points, strict=True), label=name, marker=None if len(points) > 40 else ".")
            axis.set_title(f"{stage.name}: {'loss' if losses else 'measures, part that is right'}")
            axis.set_xlabel("step")
            axis.set_yscale("log" if losses else "linear")
            if axis.has_data():
                axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
