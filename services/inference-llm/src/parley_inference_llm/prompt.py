"""What of a conversation becomes the prompt, when it does not all fit.

The rule: system messages and the last message always stay. Room for the answer is reserved: what was asked, at most the
model's limit; a quarter of the window when nothing was asked. The oldest other messages are left out, as few as
possible, until prompt and reserve fit the window, and then further ones until the first that is left is a user's. When
not even that leaves the reserve, the answer gets what is left; when nothing is left, ContextWindowExceeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parley_inference_llm.engine import ChatMessage
from parley_inference_llm.errors import ContextWindowExceeded

_RESERVED_SHARE = 4  # a quarter of the window

Count = Callable[[Sequence[ChatMessage]], int]


@dataclass(frozen=True)
class Prompt:
    """The indices of the messages that stay, the tokens they make, and the room for the answer."""

    kept: tuple[int, ...]
    tokens: int
    max_output_tokens: int


def fit(
    messages: Sequence[ChatMessage],
    asked: int,
    *,
    window: int,
    limit: int,
    count: Count,
    count_text: Callable[[str], int],
) -> Prompt:
    """Choose the messages that stay. `asked` is the wanted room for the answer, 0 for none stated.

    `count` renders a whole prompt, `count_text` one text alone, which is never more than its share of a prompt.
    """
    budget = min(asked or limit, limit)
    reserve = min(asked, limit) if asked else min(limit, window // _RESERVED_SHARE)
    room = window - reserve
    last = len(messages) - 1
    fixed = {last} | {index for index, message in enumerate(messages) if message.role == "system"}
    droppable = [index for index in range(len(messages)) if index not in fixed]

    def kept_after(dropped: int) -> tuple[int, ...]:
        while dropped < len(droppable) and messages[droppable[dropped]].role != "user" and dropped > 0:
            dropped += 1
        return tuple(sorted(fixed | set(droppable[dropped:])))

    def tokens_after(dropped: int) -> int:
        return count([messages[index] for index in kept_after(dropped)])

    # Texts alone bound the prompt from below: what they rule out is never rendered, however long the history is.
    low, alone = len(droppable), 0
    while low > 0 and (alone := alone + count_text(messages[droppable[low - 1]].content)) <= room:
        low -= 1
    dropped, tokens = low, tokens_after(low)
    if tokens > room and low < len(droppable):
        low, dropped = low + 1, len(droppable)
        while low < dropped:
            middle = (low + dropped) // 2
            if tokens_after(middle) <= room:
                dropped = middle
            else:
                low = middle + 1
        tokens = tokens_after(dropped)
    if tokens >= window:
        raise ContextWindowExceeded(tokens, window)
    return Prompt(kept_after(dropped), tokens, min(budget, window - tokens))
