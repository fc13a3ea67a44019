"""Starting, dying and stopping, as processes."""

import asyncio
import os
import shutil
import signal
import sys

import psutil
import pytest

from .world import MODEL, MODELS, gone, running


async def test_a_killed_service_leaves_no_engine_behind(logs, neighbours):
    async with running(logs, *neighbours) as (process, *_):
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.kill()
        await process.wait()
        assert await gone(family)


async def test_a_dead_engine_ends_the_service_with_a_status(logs, neighbours):
    async with running(logs, *neighbours) as (process, *_):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        async with asyncio.timeout(60):
            assert await process.wait() == 1


async def test_sigterm_gives_the_lease_back_and_leaves_nothing(logs, neighbours, registry):
    async with running(logs, *neighbours, REPLICA_ID="to-be-stopped") as (process, *_):
        assert "to-be-stopped" in registry.leases
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    assert "to-be-stopped" in registry.released
    assert await gone(family)


@pytest.mark.parametrize("model", ["/nowhere", "empty", "base"])
async def test_an_unusable_model_is_one_readable_cause(tmp_path, model):
    folder = tmp_path / "model"
    if model == "base":
        shutil.copytree(MODELS / MODEL, folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    else:
        folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley_inference_llm"),
        env=os.environ | {"PARLEY_INFERENCE_LLM_MODEL": model if model.startswith("/") else str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"The model cannot be used." in errors
    assert b"Traceback" not in errors
    assert (b"no chat template" in errors) == (model == "base")
