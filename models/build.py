"""Builds the small local models: `python models/build.py --out DIR [--force]`."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is downloaded; say so before the libraries look


def _chat(folder: Path) -> None:
    from chat.build import build  # noqa: PLC0415 - seconds of imports, only when it is built

    build(folder)


def _image(folder: Path) -> None:
    from image.build import build  # noqa: PLC0415 - seconds of imports, only when it is built

    build(folder)


MODELS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "parley-tiny-chat": ("config.json", _chat),
    "parley-tiny-image": ("model_index.json", _image),
}


def main() -> None:
    """Build what is missing, each model whole or not at all."""
    parser = argparse.ArgumentParser(description="Build the small local models from nothing, without a download.")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets one folder per model")
    parser.add_argument("--force", action="store_true", help="build even what is there")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, (marker, build) in MODELS.items():
        target = arguments.out / name
        if (target / marker).exists() and not arguments.force:
            print(f"{name} is there", flush=True)
            continue
        print(f"building {name}", flush=True)
        began = time.monotonic()
        making = arguments.out / f".{name}.new"
        shutil.rmtree(making, ignore_errors=True)
        build(making)
        shutil.rmtree(target, ignore_errors=True)
        making.rename(target)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        print(f"built {name}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
