"""The rules of forgetting and of telling all that is stored of a user."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncGenerator

from parley_inference_image.job import Job, State
from parley_inference_image.pictures import Pictures
from parley_inference_image.repository import Repository
from parley_inference_image.user_data_repository import UserDataRepository

_PAGE = 20


class UserData:
    """What inference-image has of a user: jobs and pictures."""

    def __init__(self, store: UserDataRepository, jobs: Repository, pictures: Pictures) -> None:
        self._store = store
        self._jobs = jobs
        self._pictures = pictures

    async def erase(self, user_id: uuid.UUID) -> bool:
        """Erase a user; False while jobs are still ending or billing has not heard of their ends.

        Every step may be repeated, and a death between two of them leaves the rest to the next call: a picture goes before
        the row that knows of it. What was being stored when the user was buried is seen by a later call.
        """
        await self._store.bury(user_id)
        await self._store.stop_all(user_id)
        for job_id in await self._store.blank(user_id):
            await self._pictures.delete(job_id)
        while ended := await self._store.ended(user_id, _PAGE):
            for job_id in ended:
                await self._pictures.delete(job_id)
            await self._store.delete(ended)
        return not await self._store.has_any(user_id)

    async def export(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Yield everything that is stored of a user: the kind, and the thing as JSON."""
        before: uuid.UUID | None = None
        while jobs := await self._jobs.list_of_user(user_id, before, _PAGE):
            for job in jobs:
                yield "imageJobs", json.dumps(await self._thing(job))
            before = jobs[-1].id

    async def _thing(self, job: Job) -> dict[str, object]:
        thing: dict[str, object] = {
            "id": str(job.id),
            "state": job.state,
            "prompt": job.prompt,
            "negativePrompt": job.negative_prompt,
            "width": job.width,
            "height": job.height,
            "steps": job.steps,
            "seed": str(job.seed),
            "model": job.model,
            "chargedMicros": None if job.charged_micros is None else str(job.charged_micros),
            "createTime": job.created_at.isoformat(),
        }
        if job.state is State.SUCCEEDED:
            try:
                thing["png"] = base64.b64encode(await self._pictures.get(job.id)).decode()
            except FileNotFoundError:
                thing["png"] = None
        return thing
