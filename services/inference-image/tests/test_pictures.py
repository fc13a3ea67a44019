"""Object storage in a local folder."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from parley_inference_image.pictures import Pictures


async def test_local_folder(tmp_path: Path) -> None:
    folder = tmp_path / "with space" / "objects"
    pictures, job_id = Pictures(folder.as_uri()), uuid.uuid4()
    with pytest.raises(FileNotFoundError):
        await pictures.get(job_id)
    await pictures.put(job_id, b"first")
    await pictures.put(job_id, b"again")
    assert await pictures.get(job_id) == b"again"
    assert [path.name for path in folder.rglob("*.*")] == [f"{job_id}.png"]
