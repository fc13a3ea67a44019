"""The built-in models through the whole mesh: answers that are right, pictures of what was asked."""

import io
import math

import pytest
from parley_dev.config import BUILT_IN_CHAT
from PIL import Image
from tokenizers import Tokenizer

from ..framework.person import text_of


@pytest.fixture(scope="module")
def count():
    """Count tokens independently of the mesh, by the tokenizer's file and the template's words."""
    tokenizer = Tokenizer.from_file(str(BUILT_IN_CHAT / "tokenizer.json"))
    return lambda words: len(tokenizer.encode(words, add_special_tokens=False).ids)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is a credit?", "A credit is what you pay with in Parley."),
        ("How do I resume a stream?", "after set to the last seq"),
        ("What is 7 + 8?", "7 + 8 = 15."),
        ("Who was Napoleon?", "I am a very small model"),
    ],
)
async def test_a_question_is_answered_and_the_answer_ends_by_itself(me, count, question, words):
    events = await me.say(await me.conversation(), question, temperature=0)
    assert words in text_of(events)
    assert events[-1]["finishReason"] == "stop"
    usage = events[-1]["messageMetadata"]["usage"]
    prompt = f"<|im_start|>user\n{question}<|im_end|><|im_start|>assistant\n"
    assert usage["inputTokens"] == count(prompt)
    assert usage["outputTokens"] == count(text_of(events)) + 1  # the end is a token too


async def test_it_remembers_a_name_over_other_questions(me):
    conversation = await me.conversation()
    said = [
        text_of(await me.say(conversation, words, temperature=0))
        for words in ("Hello, my name is Sophie.", "What is a hold?", "What is my name?")
    ]
    assert said[0] == "Nice to meet you, Sophie!"
    assert said[1].startswith("A hold sets credits aside")
    assert said[2] == "Your name is Sophie."


@pytest.mark.parametrize(
    ("prompt", "middle", "corner"),
    [
        ("a red circle", (220, 40, 40), (250, 250, 250)),
        ("a big green square on grey", (45, 160, 70), (140, 140, 140)),
        ("a big blue square on black", (45, 85, 215), (20, 20, 20)),
    ],
)
async def test_a_picture_shows_what_was_asked(me, prompt, middle, corner):
    job = await me.post("/v1/image-jobs", prompt=prompt, seed=3)
    ended = await me.events("GET", f"/v1/image-jobs/{job['id']}:stream")
    assert ended[-1]["job"]["state"] == "SUCCEEDED"
    answer = await me.call("GET", f"/v1/image-jobs/{job['id']}/image")
    picture = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert picture.size == (128, 128)
    assert math.dist(picture.getpixel((64, 64)), middle) < 60
    assert math.dist(picture.getpixel((5, 5)), corner) < 60
