"""Generation by real vLLM, over gRPC."""

import asyncio
import json

import httpx
import pytest
from parley_kit.errors import ParleyError
from tokenizers import Tokenizer

from .world import LONG, MODEL, MODELS, text


@pytest.fixture(scope="module")
def count():
    """Count tokens independently of the service, by the tokenizer's file and the template's words."""
    tokenizer = Tokenizer.from_file(str(MODELS / MODEL / "tokenizer.json"))

    def tokens(words, *, framed=False):
        whole = f"<|im_start|>user\n{words}<|im_end|><|im_start|>assistant\n" if framed else words
        return len(tokenizer.encode(whole, add_special_tokens=False).ids)

    return tokens


async def refusal(call):
    with pytest.raises(ParleyError) as refused:
        await call
    return refused.value


@pytest.mark.parametrize("words", ["Hello!", "What is a credit?", "Hello, wie geht's? 世界"])
async def test_a_stream_counts_as_the_tokenizer_does_and_ends_by_itself(client, count, words):
    steps = await client.generate(words, max_output_tokens=100)
    assert {step.input_tokens for step in steps} == {count(words, framed=True)}
    counts = [step.output_tokens for step in steps]
    assert counts == sorted(counts)
    assert counts[-1] == count(text(steps)) + 1  # the end is a token too
    assert [step.finish_reason for step in steps] == [""] * (len(steps) - 1) + ["stop"]
    assert (await client.prepare(words)).prompt_tokens == steps[0].input_tokens


async def test_the_limit_ends_an_answer_that_has_no_end(client, count):
    steps = await client.generate(LONG, max_output_tokens=200)
    assert text(steps).startswith("1 2 3 4 5 6 7 8 9 10 11 12 ")
    assert (steps[-1].finish_reason, steps[-1].output_tokens, count(text(steps))) == ("length", 200, 200)
    assert len(steps) > 20


async def test_greedy_is_the_same_every_time_and_sampling_is_not(client):
    greedy = {text(await client.generate("Hello!", max_output_tokens=30)) for _ in range(3)}
    assert len(greedy) == 1
    sampled = {text(await client.generate("Hello!", max_output_tokens=30, temperature=2)) for _ in range(3)}
    assert len(sampled) == 3
    seeded = {text(await client.generate("Hello!", max_output_tokens=30, temperature=2, seed=3)) for _ in range(3)}
    assert len(seeded) == 1


async def test_what_the_engine_has_of_a_prompt_is_counted(client):
    words = "Count these words, all of them: " + "one two three four five six seven eight nine ten " * 20
    first, second = [await client.generate(words, max_output_tokens=3) for _ in range(2)]
    assert {step.cached_input_tokens for step in first} == {0}
    (cached,) = {step.cached_input_tokens for step in second}
    assert 0 < cached < second[0].input_tokens
    rest = await client.generate(words, max_output_tokens=3, continuation="one two three " * 100)
    rest = await client.generate(words, max_output_tokens=3, continuation="one two three " * 100)
    assert all(step.cached_input_tokens <= step.input_tokens for step in rest)


async def test_what_was_computed_for_one_user_is_cached_for_no_other(client):
    words = "What one asks is nobody else's business. " * 20
    cached = []
    for salt in ("one", "other", "one", ""):
        steps = await client.generate(words, max_output_tokens=3, cache_salt=salt)
        cached.append(steps[-1].cached_input_tokens)
    assert (cached[0], cached[1], cached[3]) == (0, 0, 0)
    assert cached[2] > 0


async def test_a_stop_text_ends_the_answer_and_is_not_in_it(client):
    whole = text(await client.generate("Hello!", max_output_tokens=30))
    stop = whole[10:14]
    steps = await client.generate("Hello!", max_output_tokens=30, stop=[stop])
    assert text(steps) == whole[: whole.index(stop)]
    assert steps[-1].finish_reason == "stop"


async def test_an_answer_is_continued_byte_for_byte(client, count):
    steps = await client.generate("Hello!", max_output_tokens=60)
    whole = text(steps)
    begun = [text(steps[: index + 1]) for index in range(len(steps) - 1)]
    # Where the text so far is cut into other tokens than those that were written, the rest may differ.
    same_tokens = [words for words, step in zip(begun, steps, strict=False) if count(words) == step.output_tokens]
    assert len(same_tokens) >= 3
    for words in (same_tokens[0], same_tokens[len(same_tokens) // 2], same_tokens[-1]):
        rest = await client.generate("Hello!", max_output_tokens=60 - count(words), continuation=words)
        assert words + text(rest) == whole


async def test_a_continuation_is_not_counted(client, count):
    rest = await client.generate(LONG, max_output_tokens=20, continuation="1 2 3 4 5 6 7 8 9 1")  # inside a number
    assert {step.input_tokens for step in rest} == {count(LONG, framed=True)}
    assert rest[-1].output_tokens == 20
    assert text(rest).startswith("0 11 12 13 ")


async def test_a_continuation_that_fills_the_window_is_at_its_end(client):
    steps = await client.generate("Hello!", continuation="word " * 2100)
    assert [(step.delta, step.output_tokens, step.finish_reason) for step in steps] == [("", 0, "length")]


async def test_leaving_stops_the_engine(client, service):
    calls = [client.call(LONG, max_output_tokens=1900) for _ in range(4)]
    for call in calls:
        await call.read()
    for call in calls:
        call.cancel()
    async with httpx.AsyncClient() as http, asyncio.timeout(20):
        while True:
            lines = (await http.get(service[2])).text.splitlines()
            shown = [line for line in lines if line.startswith(("parley_llm_running", "vllm:num_requests_running{"))]
            assert len(shown) == 2
            if all(float(line.rpartition(" ")[2]) == 0 for line in shown):
                break
            await asyncio.sleep(0.05)


async def test_many_at_once(client):
    answers = await asyncio.gather(*(client.generate(f"Count from {n}.", max_output_tokens=30) for n in range(32)))
    assert all(steps[-1].output_tokens == 30 for steps in answers)


async def test_a_conversation_is_cut_and_says_so(client):
    prepared = await client.prepare(*["word " * 150] * 21, asked=100)
    assert prepared.dropped_messages == 21 - len(prepared.kept) > 0
    assert list(prepared.kept) == list(range(21 - len(prepared.kept), 21))
    assert prepared.prompt_tokens + 100 <= 2048
    assert prepared.max_output_tokens == 100


async def test_what_does_not_fit_is_refused(client):
    refused = await refusal(client.prepare("word " * 3000))
    assert refused.code == "CONTEXT_WINDOW_EXCEEDED"
    assert (await refusal(client.generate("word " * 3000))).code == "CONTEXT_WINDOW_EXCEEDED"


async def test_another_model_is_somewhere_else(client):
    assert (await refusal(client.prepare("x", model="other"))).code == "MODEL_NOT_FOUND"
    assert (await refusal(client.generate("x", model="other"))).code == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        ({"max_output_tokens": 0}, "sampling.maxOutputTokens"),
        ({"temperature": 3}, "sampling.temperature"),
        ({"top_p": 0}, "sampling.topP"),
        ({"stop": [""]}, "sampling.stop[0]"),
    ],
)
async def test_bad_sampling_is_named(client, sampling, field):
    refused = await refusal(client.generate("x", **sampling))
    assert (refused.code, refused.fields[0].field) == ("INVALID_ARGUMENT", field)


async def test_the_lease_says_what_the_engine_can(client, registry):
    (lease,) = registry.leases.values()
    assert (lease.model, lease.context_window, lease.max_output_tokens) == (MODEL, 2048, 2047)


async def test_no_prompt_is_logged(client, service):
    await client.generate("xylophonist", max_output_tokens=3)
    written = service[3].read_text()
    assert "xylophonist" not in written
    assert any(json.loads(line).get("event") == "call" for line in written.splitlines() if line.startswith("{"))
