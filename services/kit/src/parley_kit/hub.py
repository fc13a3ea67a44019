"""Models that are safe to load: pinned to a commit, weights as safetensors, no code of their own.

An engine is given a folder, never a hub id. What may be loaded is thereby decided here, for hub models as for folders,
before the engine's library sees anything; and nothing that a model's files name can still be fetched behind our back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

_log = structlog.get_logger()
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PICKLES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
_HUB_SECONDS = 5


class UnusableModel(Exception):
    """The configured model cannot be used; the text says why, for the operator."""


def served_name(model: str) -> str:
    """Return a model's id in the catalogue: a folder's name, or a hub id without its commit."""
    folder = Path(model)
    return folder.resolve().name if folder.is_dir() else model.partition("@")[0]


def fetch(model: str, wanted: Collection[str], unwanted: Collection[str] = ()) -> Path:
    """Return a model's folder; of a hub model, the files that match the patterns, at its commit. Raises UnusableModel."""
    if Path(model).is_dir():
        return Path(model)
    if model.startswith((".", "/", "~")):
        raise UnusableModel(f"{model}: there is no such folder")
    name, _, commit = model.partition("@")
    if not _COMMIT.fullmatch(commit):
        raise UnusableModel(_how_to_pin(name, commit))
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only the engines have it, and folders need none
    from huggingface_hub.utils import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()  # the log is JSON
    _log.info("fetching from the hub, or from its cache", model=model, files=list(wanted))
    try:
        folder = snapshot_download(
            name, revision=commit, allow_patterns=list(wanted), ignore_patterns=list(unwanted), max_workers=4
        )
    except Exception as error:  # whatever the hub, the network or the disk comes up with
        raise UnusableModel(f"{model} cannot be fetched: {' '.join(str(error).split())}") from error
    return Path(folder)


def check(model: str, folder: Path, part: str = "") -> None:
    """Refuse pickled weights and code, in one part of a fetched model (a folder in it). Raises UnusableModel."""
    names = _names(model, folder, part)
    pickles = sorted(name for name in names if Path(name).suffix in _PICKLES)
    if pickles and not any(name.endswith(".safetensors") for name in names):
        what = f"{model}: {PurePosixPath(part, pickles[0])} is a pickle, which can run code when it is loaded"
        raise UnusableModel(f"{what}; convert the weights to safetensors")
    for file in sorted((folder / part).glob("*.json")):
        where = f"{model}: {file.relative_to(folder)}"
        if file.name.endswith("config.json") and read_json(file).get("auto_map"):
            raise UnusableModel(f"{where} asks for code of the model's own (auto_map), and that is never run")
        if file.name.endswith(".safetensors.index.json"):
            shards = read_json(file).get("weight_map", {}).values()
            if other := next((shard for shard in shards if not str(shard).endswith(".safetensors")), None):
                raise UnusableModel(f"{where} names {other}, which is not safetensors")


def stay_offline() -> None:
    """End this process's and its children's access to the hub."""
    from huggingface_hub import constants  # noqa: PLC0415 - only the engines have it

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True  # it has read the environment when it was imported


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a model's JSON file. Raises UnusableModel."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UnusableModel(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UnusableModel(f"{file} holds no object")
    return content


def _names(model: str, folder: Path, part: str) -> list[str]:
    """List the files in a part of a folder, or of a hub model: then also those that were not downloaded."""
    if folder != Path(model):
        from huggingface_hub import get_cached_repo_tree  # noqa: PLC0415 - only the engines have it
        from huggingface_hub.errors import CachedRepoTreeNotFoundError  # noqa: PLC0415

        name, _, commit = model.partition("@")
        with contextlib.suppress(CachedRepoTreeNotFoundError):  # offline, and the cache is of an older library
            paths = [PurePosixPath(file.path) for file in get_cached_repo_tree(name, revision=commit)]
            return [path.name for path in paths if path.parent == PurePosixPath(part)]
    return [file.name for file in (folder / part).glob("*")]


def _how_to_pin(name: str, revision: str) -> str:
    from huggingface_hub import HfApi, constants  # noqa: PLC0415 - only the engines have it

    problem = f"{name}{revision and '@'}{revision} is neither a folder nor a hub model pinned to a commit"
    branch = revision or "main"
    try:
        commit = HfApi().model_info(name, revision=branch, timeout=_HUB_SECONDS).sha
    except Exception as error:  # noqa: BLE001 - no network, no such model, no such revision: the remedy is the same
        why = f"the hub could not tell `{branch}`: {type(error).__name__}"
        return f"{problem} ({why}). Take one from {constants.ENDPOINT}/{name}/commits/main and use {name}@<commit>"
    return f"{problem}. `{branch}` is now {commit}: use {name}@{commit}"
