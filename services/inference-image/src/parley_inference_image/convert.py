"""Proto <-> domain. Pure."""

from __future__ import annotations

import datetime as dt
import uuid

from google.protobuf.timestamp_pb2 import Timestamp
from parley.billing.v1 import credit_pb2, work_pb2
from parley.image.v1 import image_job_pb2, image_job_service_pb2
from parley_kit.errors import InvalidArgument

from parley_inference_image import events
from parley_inference_image.job import Ask, Job, State
from parley_inference_image.work import Work

_STATES = {
    State.PENDING_HOLD: image_job_pb2.ImageJob.QUEUED,  # not reachable: such a job is never returned
    State.QUEUED: image_job_pb2.ImageJob.QUEUED,
    State.RUNNING: image_job_pb2.ImageJob.RUNNING,
    State.SUCCEEDED: image_job_pb2.ImageJob.SUCCEEDED,
    State.FAILED: image_job_pb2.ImageJob.FAILED,
    State.CANCELLED: image_job_pb2.ImageJob.CANCELLED,
}


def to_ask(request: image_job_service_pb2.CreateImageJobRequest) -> Ask:
    """Read a request. Text with a NUL is refused here, because Postgres cannot store one."""
    for field, text in (
        ("prompt", request.prompt),
        ("negativePrompt", request.negative_prompt),
        ("model", request.model),
        ("requestId", request.request_id),
    ):
        if "\0" in text:
            raise InvalidArgument(field, "must not contain the NUL character")
    return Ask(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width if request.HasField("width") else None,
        height=request.height if request.HasField("height") else None,
        steps=request.steps if request.HasField("steps") else None,
        seed=request.seed if request.HasField("seed") else None,
        model=request.model,
    )


def to_uuid(field: str, text: str) -> uuid.UUID:
    """Read an id; InvalidArgument names the field."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidArgument(field, "must be a UUID") from None


def to_message(job: Job) -> image_job_pb2.ImageJob:
    """Write a job."""
    return image_job_pb2.ImageJob(
        id=str(job.id),
        state=_STATES[job.state],
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        width=job.width,
        height=job.height,
        steps=job.steps,
        seed=job.seed,
        model=job.model,
        steps_done=job.steps_done,
        position=job.position,
        error=job.error,
        charged_micros=job.charged_micros,
        create_time=to_timestamp(job.created_at),
        end_time=to_timestamp(job.ended_at),
    )


def to_event(event: events.Event, seq: int) -> image_job_pb2.ImageJobEvent:
    """Write an event of a watched job."""
    match event:
        case events.Queued(position):
            return image_job_pb2.ImageJobEvent(type="queued", seq=seq, position=position)
        case events.Progress(step, steps):
            return image_job_pb2.ImageJobEvent(type="progress", seq=seq, step=step, steps=steps)
        case events.Done(job):
            return image_job_pb2.ImageJobEvent(type="done", seq=seq, job=to_message(job))
        case events.Heartbeat():
            return image_job_pb2.ImageJobEvent(type="heartbeat", seq=seq)


def to_timestamp(moment: dt.datetime | None) -> Timestamp | None:
    """Write a moment, if there is one."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def to_work(work: Work) -> work_pb2.Work:
    """Write what a job was to its hold."""
    ended = work_pb2.Work.DONE if work.acknowledged else work_pb2.Work.OWED
    return work_pb2.Work(
        id=str(work.id),
        user_id="" if work.user_id is None else str(work.user_id),
        model=work.model,
        price_version=work.price_version,
        state=work_pb2.Work.OPEN if work.ended_at is None else ended,
        due=work.due,
        quantity=credit_pb2.Quantity(pixel_steps=work.pixel_steps),
        charged_micros=work.charged_micros,
        end_time=to_timestamp(work.ended_at),
    )
