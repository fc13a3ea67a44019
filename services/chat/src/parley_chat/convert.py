"""Proto <-> domain. Pure."""

from __future__ import annotations

import datetime as dt
import uuid

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from parley.billing.v1 import credit_pb2, work_pb2
from parley.chat.v1 import conversation_pb2, message_pb2, message_service_pb2
from parley.chat.v1.message_stream_pb2 import MessageMetadata, MessageStreamEvent
from parley_kit import pages
from parley_kit.errors import InvalidArgument

from parley_chat.conversation import Conversation, Message
from parley_chat.event_log import Event, EventLog, Kind
from parley_chat.generation import Ending, FinishReason, Sampling, State
from parley_chat.sending import Ask
from parley_chat.work import Work

_TEXT_PART = "0"  # an answer has one text part
_BROKEN_OFF = "The stream broke off on our side. Resume the generation for the rest."
_ROLES = {"user": message_pb2.Message.USER, "assistant": message_pb2.Message.ASSISTANT}
_STATES = {
    State.ADMITTING: message_pb2.Message.STREAMING,  # not reachable: a message is stored when it runs
    State.RUNNING: message_pb2.Message.STREAMING,
    State.COMPLETE: message_pb2.Message.COMPLETE,
    State.CANCELLED: message_pb2.Message.CANCELLED,
    State.FAILED: message_pb2.Message.FAILED,
}


def to_uuid(field: str, text: str) -> uuid.UUID:
    """Read an id; InvalidArgument names the field."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidArgument(field, "must be a UUID") from None


def storable(**texts: str) -> None:
    """Refuse text with a NUL, which Postgres cannot store; keyword names are proto fields."""
    for name, text in texts.items():
        if "\0" in text:
            first, *rest = name.split("_")
            raise InvalidArgument(first + "".join(map(str.title, rest)), "must not contain the NUL character")


def to_ask(request: message_service_pb2.SendMessageRequest) -> Ask:
    """Read a message to send."""
    storable(content=request.content, model=request.model, request_id=request.request_id)
    return Ask(
        conversation_id=to_uuid("conversationId", request.conversation_id),
        content=request.content,
        model=request.model,
        sampling=Sampling(
            max_output_tokens=request.max_output_tokens if request.HasField("max_output_tokens") else None,
            temperature=request.temperature if request.HasField("temperature") else None,
        ),
        request_id=request.request_id,
    )


def to_conversation(conversation: Conversation) -> conversation_pb2.Conversation:
    """Write a conversation."""
    return conversation_pb2.Conversation(
        id=str(conversation.id),
        title=conversation.title,
        model=conversation.model,
        create_time=to_timestamp(conversation.created_at),
        update_time=to_timestamp(conversation.updated_at),
    )


def to_message(message: Message) -> message_pb2.Message:
    """Write a message."""
    ending = message.ending
    return message_pb2.Message(
        id=str(message.id),
        conversation_id=str(message.conversation_id),
        role=_ROLES[message.role],
        content=message.content,
        state=_STATES[message.state],
        model=message.model,
        generation_id=str(message.generation_id or ""),
        finish_reason=ending.finish_reason if ending else "",
        usage=_usage(ending) if ending else None,
        charged_micros=ending.charged_micros if ending else None,
        error_reason=ending.error_reason if ending else "",
        create_time=to_timestamp(message.created_at),
    )


def to_event(event: Event, log: EventLog) -> MessageStreamEvent:
    """Write an event in the AI SDK's shape."""
    match event.kind:
        case Kind.START:
            return MessageStreamEvent(
                type=event.kind,
                seq=event.seq,
                message_id=str(log.message_id or ""),
                message_metadata=MessageMetadata(generation_id=str(log.generation_id), model=log.model),
            )
        case Kind.TEXT_DELTA:
            return MessageStreamEvent(type=event.kind, seq=event.seq, id=_TEXT_PART, delta=event.text)
        case Kind.TEXT_START | Kind.TEXT_END:
            return MessageStreamEvent(type=event.kind, seq=event.seq, id=_TEXT_PART)
        case Kind.ERROR:
            return MessageStreamEvent(type=event.kind, seq=event.seq, error_text=event.text)
        case Kind.FINISH:
            return _finish(event, log)
        case Kind.HEARTBEAT:
            return MessageStreamEvent(type=event.kind, data=Struct(), transient=True)


def _finish(event: Event, log: EventLog) -> MessageStreamEvent:
    ending = log.ending
    metadata = MessageMetadata(generation_id=str(log.generation_id), model=log.model)
    if ending is not None:
        metadata.usage.CopyFrom(_usage(ending))
        metadata.charged_micros = ending.charged_micros
        if ending.error_reason:
            metadata.error_reason = ending.error_reason
    reason = ending.finish_reason if ending else None
    return MessageStreamEvent(type=event.kind, seq=event.seq, finish_reason=reason, message_metadata=metadata)


def broken_off(log: EventLog) -> tuple[MessageStreamEvent, MessageStreamEvent]:
    """Write the end of a stream that cannot go on, though the generation may: they have no numbers."""
    metadata = MessageMetadata(generation_id=str(log.generation_id), model=log.model)
    return (
        MessageStreamEvent(type=Kind.ERROR, error_text=_BROKEN_OFF),
        MessageStreamEvent(type=Kind.FINISH, finish_reason=FinishReason.ERROR, message_metadata=metadata),
    )


def conversation_page(conversation: Conversation) -> str:
    """Return the token of the page after a conversation."""
    return pages.encode(conversation.updated_at.isoformat(), str(conversation.id))


def from_conversation_page(token: str) -> tuple[dt.datetime, uuid.UUID] | None:
    """Read the token of conversation_page; None for the first page."""
    if not token:
        return None
    updated_at, conversation_id = pages.decode(token, 2)
    try:
        moment = dt.datetime.fromisoformat(updated_at)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidArgument("pageToken", "is not a page token of this list; leave it out for the first page")
    return moment, to_uuid("pageToken", conversation_id)


def from_message_page(token: str) -> int:
    """Read the position that a page of messages follows; -1 for the first page."""
    if not token:
        return -1
    (position,) = pages.decode(token, 1)
    if not (position.isascii() and position.isdigit() and len(position) < 10):
        raise InvalidArgument("pageToken", "is not a page token of this list; leave it out for the first page")
    return int(position)


def _usage(ending: Ending) -> message_pb2.Usage:
    return message_pb2.Usage(
        input_tokens=ending.usage.input_tokens,
        output_tokens=ending.usage.output_tokens,
        cached_input_tokens=ending.usage.cached_input_tokens,
    )


def to_timestamp(moment: dt.datetime) -> Timestamp:
    """Write a moment."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def to_work(work: Work) -> work_pb2.Work:
    """Write what a generation was to its hold."""
    served_model, served_price_version = work.served or ("", 0)
    return work_pb2.Work(
        id=str(work.id),
        user_id="" if work.user_id is None else str(work.user_id),
        model=work.model,
        price_version=work.price_version,
        state=work_pb2.Work.State.Value(work.state),
        due=work.due,
        quantity=credit_pb2.Quantity(
            input_tokens=work.usage.input_tokens,
            output_tokens=work.usage.output_tokens,
            cached_input_tokens=work.usage.cached_input_tokens,
        ),
        charged_micros=work.charged_micros,
        served_model=served_model,
        served_price_version=served_price_version,
        end_time=None if work.ended_at is None else to_timestamp(work.ended_at),
    )
