"""The small local models, built where no other model was asked for."""

from __future__ import annotations

import subprocess
import sys

from parley_dev.config import ROOT, CannotRunError, Mesh


def missing(mesh: Mesh) -> bool:
    """Whether a built-in model is needed and absent."""
    chat = not mesh.model and not (mesh.tiny_chat / "config.json").exists()
    image = not mesh.image_model and not (mesh.tiny_image / "model_index.json").exists()
    return chat or image


def build_command(mesh: Mesh) -> list[str]:
    """Return the command that builds both."""
    return [sys.executable, str(ROOT / "models" / "build.py"), "--out", str(mesh.home / "models")]


def build(mesh: Mesh) -> None:
    """Build both now, showing what the script says."""
    if subprocess.run(build_command(mesh), check=False).returncode:
        raise CannotRunError("models/build.py failed; its message is above.")
