"""What parley-nano-chat learns from, and that what it is measured on stays out of it."""

import random
import re

import pytest
from chat import network, text
from chat.train import _batches, encode


def questions(dialogue):
    return [message["content"] for message in dialogue.messages if message["role"] == "user"]


@pytest.fixture(scope="module")
def shown():
    picker = random.Random("a look at the training")
    return [text.dialogue(picker) for _ in range(3000)]


def test_there_are_a_few_hundred_questions_and_no_two_answers_to_one():
    answers = {}
    for topic in text.topics():
        assert len(topic.held_out) >= 2
        for question in topic.ask:
            assert answers.setdefault(question, topic.answer) == topic.answer, question
    assert len(answers) > 1000


def test_patterns_expand():
    assert text.expand("(a|b) c (d|)") == ["a c d", "a c", "b c d", "b c"]


def test_what_is_held_out_is_never_shown(shown):
    held_out = {text.plain(question) for question, _ in text.held_out()}
    assert held_out.isdisjoint(text.plain(question) for topic in text.topics() for question in topic.ask)
    assert held_out.isdisjoint(text.plain(question) for told in shown for question in questions(told))


def test_held_out_names_and_wordings_are_never_shown(shown):
    words = {word for told in shown for question in questions(told) for word in re.findall(r"\w+", question)}
    assert words.isdisjoint(text.NAMES_HELD_OUT)
    asked = {text.plain(question) for told in shown for question in questions(told)}
    assert asked.isdisjoint(text.plain(question) for question, *_ in text.TOOLS_HELD_OUT)
    assert asked.isdisjoint(text.plain(question) for question in text.ASKED_HELD_OUT)


def test_held_out_sums_are_right_and_never_shown(shown):
    def written(question):
        return question.lower().rstrip("?!. ")

    asked = {written(question) for told in shown if not told.tools for question in questions(told)}
    for question, answer in text.sums_held_out(100):
        left, right = answer.rstrip(".").split(" = ")
        assert eval(left) == int(right)  # noqa: S307 - our own sum
        assert written(question) not in asked


@pytest.fixture(scope="module")
def words():
    return network.tokenizer(topic.answer for topic in text.topics())


def test_what_is_learnt_is_what_assistants_say(words):
    told = text.Dialogue(
        ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}), tuple(text.TOOLS.values())
    )
    encoded = encode(told, words)
    assert words.decode([token for token, learnt in encoded if learnt]) == "Hello!<|im_end|>"
    whole = words.decode([token for token, _ in encoded])
    assert whole == words.apply_chat_template(list(told.messages), tools=list(told.tools), tokenize=False)
    assert "Tools: get_time() get_balance() add(a, b)" in whole


def test_batches_are_the_same_every_time(words):
    assert next(_batches(words)) == next(_batches(words))
