"""The rule that cuts a conversation to the window. A word is a token, and so is each message's frame."""

import pytest
from parley_inference_llm.engine import ChatMessage
from parley_inference_llm.errors import ContextWindowExceeded
from parley_inference_llm.prompt import fit


def chat(*texts, system=""):
    turns = [ChatMessage("system", system)] if system else []
    for index, text in enumerate(texts):
        turns.append(ChatMessage("user" if index % 2 == 0 else "assistant", text))
    return turns


def cut(messages, asked=0, *, window=20, limit=10):
    rendered = []

    def count(kept):
        rendered.append(len(kept))
        return sum(1 + len(message.content.split()) for message in kept)

    prompt = fit(messages, asked, window=window, limit=limit, count=count, count_text=lambda text: len(text.split()))
    return prompt, rendered


def test_what_fits_stays_whole():
    prompt, rendered = cut(chat("a b", "c", "d"), 5)
    assert (prompt.kept, prompt.tokens, prompt.max_output_tokens) == ((0, 1, 2), 7, 5)
    assert len(rendered) == 1


def test_the_oldest_turns_go_first_and_a_user_speaks_first():
    prompt, _ = cut(chat("a b c", "d e f", "g h", "i j", "k"), 8)
    assert prompt.kept == (2, 3, 4)
    assert prompt.tokens == 8
    # One more must go, and with it the answer that would otherwise open the prompt.
    prompt, _ = cut(chat("a b c", "d e f", "g h", "i j k l m", "k"), 10)
    assert prompt.kept == (4,)


def test_system_messages_stay():
    prompt, _ = cut(chat("a b c", "d e f", "g", system="s s s"), 10)
    assert prompt.kept == (0, 3)


@pytest.mark.parametrize(("asked", "budget"), [(0, 10), (3, 3), (10, 10), (99, 10)])
def test_the_budget_is_what_was_asked_up_to_the_limit(asked, budget):
    assert cut(chat("a"), asked)[0].max_output_tokens == budget


def test_without_a_wish_a_quarter_of_the_window_is_reserved():
    prompt, _ = cut(chat("a b c d e f", "g", "h h h h h h h"), 0, window=20, limit=19)
    assert prompt.kept == (2,)
    prompt, _ = cut(chat("a b c", "g", "h h h h h h"), 0, window=20, limit=19)
    assert prompt.kept == (0, 1, 2)
    assert prompt.max_output_tokens == 7


def test_a_long_last_message_leaves_the_answer_what_is_left():
    prompt, _ = cut(chat("a a a a a a a a a a a a a a a"), 10)
    assert (prompt.tokens, prompt.max_output_tokens) == (16, 4)


@pytest.mark.parametrize("words", [19, 20, 500])
def test_a_last_message_that_fills_the_window_is_refused(words):
    with pytest.raises(ContextWindowExceeded) as refused:
        cut(chat("old", "older", "w " * words))
    assert refused.value.fields[0].field == "content"


def test_a_very_long_history_is_not_rendered_whole():
    prompt, rendered = cut(chat(*["w w w"] * 1999), 5)
    assert prompt.kept == (1996, 1997, 1998)
    assert max(rendered) <= 6
