"""Models that somebody else made: what they must not get the real engine to do."""

import asyncio
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from parley_kit import testing
from parley_kit.testing import Hub
from safetensors.torch import load_file

from .world import MODEL, MODELS, running

PINNED = f"{Hub.NAME}@{Hub.COMMIT}"


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, ran):
        self.ran = ran

    def __reduce__(self):
        return Path.touch, (self.ran,)


@pytest.fixture
def foreign(tmp_path):
    """A copy of the model, to be spoiled."""
    return shutil.copytree(MODELS / MODEL, tmp_path / "model")


@pytest.fixture
def ran(tmp_path):
    """A file that is there when something of the model's has run."""
    return tmp_path / "ran"


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


async def refused(model):
    """Start the service with a model that it must not take; returns its last words."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley_inference_llm"),
        env=os.environ | {"PARLEY_INFERENCE_LLM_MODEL": str(model)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 1
    assert b"Traceback" not in errors
    last = errors.decode().strip().splitlines()[-1]
    assert last.startswith("The model cannot be used. ")
    return last


async def test_weights_that_are_only_pickled_are_refused(foreign):
    """The pickle holds the right weights: a loader that falls back to it would succeed."""
    torch.save(load_file(foreign / "model.safetensors"), foreign / "pytorch_model.bin")
    (foreign / "model.safetensors").unlink()
    assert "pytorch_model.bin is a pickle" in await refused(foreign)


@pytest.mark.parametrize("name", ["model.gguf", "model.tar"])
async def test_weights_in_any_other_form_are_a_readable_cause(foreign, name):
    (foreign / "model.safetensors").rename(foreign / name)
    assert "no weights as safetensors" in await refused(foreign)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
async def test_code_of_a_model_is_not_run(foreign, ran, name):
    (foreign / "own.py").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()")
    classes = {"AutoConfig": "own.A", "AutoModelForCausalLM": "own.B", "AutoTokenizer": ["own.C", "own.C"]}
    edit(foreign / name, auto_map=classes, model_type="own", tokenizer_class="Own")
    assert f"{name} asks for code of the model's own" in await refused(foreign)
    assert not ran.exists()


async def test_pickles_and_scripts_beside_the_weights_are_not_opened(foreign, ran, logs, neighbours):
    for stem in ("pytorch_model", "model", "tokenizer", "training_args", "optimizer"):
        for kind in ("pt", "pth", "ckpt", "pkl"):
            (foreign / f"{stem}.{kind}").write_bytes(pickle.dumps(Bomb(ran)))
        torch.save(Bomb(ran), foreign / f"{stem}.bin")
        (foreign / f"{stem}.py").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()")
    async with running(logs, *neighbours, MODEL=str(foreign)):
        assert not ran.exists()
    pickle.loads((foreign / "model.pkl").read_bytes())  # noqa: S301 - the trap works
    assert ran.exists()


async def test_a_pinned_hub_model_is_served_under_its_id_and_pickles_of_it_are_not_fetched(
    foreign, tmp_path, logs, neighbours, registry
):
    for name in ("pytorch_model.bin", "own.py", "original/consolidated.safetensors"):
        (foreign / name).parent.mkdir(exist_ok=True)
        (foreign / name).touch()
    with testing.hub(foreign, tmp_path / "cache") as hub:
        async with running(logs, *neighbours, MODEL=PINNED, REPLICA_ID="from-the-hub"):
            assert registry.leases["from-the-hub"].model == Hub.NAME
        files = {path.partition("/resolve/")[2] for path in hub.asked}
    assert f"{Hub.COMMIT}/model.safetensors" in files
    assert not any(name.endswith((".bin", ".py", "consolidated.safetensors")) for name in files)


async def test_an_unpinned_hub_model_is_refused_before_anything_is_fetched(foreign, tmp_path):
    with testing.hub(foreign, tmp_path / "cache") as hub:
        assert (await refused(Hub.NAME)).endswith(f"`main` is now {Hub.COMMIT}: use {PINNED}")
        assert hub.asked == [f"/api/models/{Hub.NAME}/revision/main"]


async def test_of_a_refused_hub_model_no_weights_are_fetched(foreign, tmp_path):
    (foreign / "model.safetensors").rename(foreign / "pytorch_model.bin")
    with testing.hub(foreign, tmp_path / "cache") as hub:
        assert "pytorch_model.bin is a pickle" in await refused(PINNED)
        assert not any(path.endswith((".bin", ".safetensors")) for path in hub.asked)
