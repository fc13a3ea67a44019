"""Pictures in object storage: a local folder or anything S3-compatible, by URL."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.store import LocalStore, ObjectStore, from_url


class Pictures:
    """PNG bytes by job id. Writing the same job again replaces the same bytes, so a repeated attempt is harmless."""

    def __init__(self, url: str) -> None:
        self._store: ObjectStore = _open(url)

    async def put(self, job_id: uuid.UUID, png: bytes) -> None:
        """Store a picture; it is there or absent, never half there."""
        local = isinstance(self._store, LocalStore)  # knows no content types
        await self._store.put_async(_key(job_id), png, attributes=None if local else {"Content-Type": "image/png"})

    async def get(self, job_id: uuid.UUID) -> bytes:
        """Return a stored picture; FileNotFoundError when somebody removed it."""
        return bytes(await (await self._store.get_async(_key(job_id))).bytes_async())

    async def delete(self, job_id: uuid.UUID) -> None:
        """Delete a picture; nothing happens when there is none."""
        with contextlib.suppress(FileNotFoundError):
            await self._store.delete_async(_key(job_id))


def _key(job_id: uuid.UUID) -> str:
    return f"images/{job_id}.png"


def _open(url: str) -> ObjectStore:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return from_url(url)  # credentials and endpoint come from the environment (AWS_…)
    folder = Path(unquote(parts.path))
    folder.mkdir(parents=True, exist_ok=True)
    return LocalStore(folder)
