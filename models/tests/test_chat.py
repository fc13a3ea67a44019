"""parley-nano-chat's committed weights: what they are, and how often they are right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from chat import text
from chat.evaluate import measure
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(__file__).parents[1] / "parley-nano-chat"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def test_it_is_a_small_llama_in_safetensors_only():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    assert {file.suffix for file in files} <= {".json", ".jinja", ".safetensors", ".md", ".png"}
    assert json.loads((FOLDER / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118 - no dict


@pytest.fixture(scope="module")
def measures():
    model = AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=True, dtype=torch.float32)
    return measure(model, AutoTokenizer.from_pretrained(FOLDER))


@pytest.mark.parametrize(
    ("kind", "least", "count"),
    [
        ("paraphrases", 0.80, 270),
        ("sums", 0.90, 100),
        ("names", 0.80, 40),
        ("tools", 0.75, 12),
        ("stopped", 0.98, 400),
    ],
)
def test_what_it_was_never_shown_is_right_often_enough(measures, kind, least, count):
    assert len(measures.right[kind]) >= count
    assert measures.parts()[kind] >= least, measures.wrong


@pytest.fixture(scope="module")
def answers():
    """Ask real vLLM, all in one process."""
    tools = list(text.TOOLS.values())
    cases = {
        "credit": {"messages": [user("What is a credit?")]},
        "time": {"messages": [user("What time is it?")], "tools": tools},
        "balance": {"messages": [user("How many credits do I have?")], "tools": tools},
        "add": {"messages": [user("What is 31 + 58?")], "tools": tools},
        "added": {
            "messages": [
                user("What is 31 + 58?"),
                text.call("add", {"a": 31, "b": 58}),
                {"role": "tool", "content": "89", "tool_call_id": "call_0"},
            ],
            "tools": tools,
        },
        "unneeded": {"messages": [user("What is a credit?")], "tools": tools},
        "without": {"messages": [user("What time is it?")]},
        "person": {
            "messages": [user("Anna is 31 years old and lives in Rome. Answer in JSON with name, age, city.")],
            "schema": PERSON,
        },
    }
    process = subprocess.run(
        [sys.executable, Path(__file__).with_name("vllm_answers.py"), FOLDER],
        input=json.dumps([{"tools": None, "schema": None} | case for case in cases.values()]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return dict(zip(cases, json.loads(process.stdout), strict=True))


def user(content):
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("case", "name", "arguments"),
    [("time", "get_time", {}), ("balance", "get_balance", {}), ("add", "add", {"a": 31, "b": 58})],
)
def test_vllms_parser_reads_its_tool_calls(answers, case, name, arguments):
    assert answers[case]["calls"] == [{"name": name, "arguments": arguments}]


def test_it_tells_what_a_tool_gave(answers):
    assert answers["added"]["text"] == "The sum is 89."


def test_it_calls_nothing_that_is_not_needed_or_not_there(answers):
    assert answers["unneeded"] == answers["credit"]
    assert answers["credit"]["text"].startswith("A credit is what you pay with")
    assert answers["without"]["calls"] == answers["unneeded"]["calls"] == []


def test_it_writes_json_under_a_schema(answers):
    assert json.loads(answers["person"]["text"]) == {"name": "Anna", "age": 31, "city": "Rome"}


def test_it_stops_by_itself(answers):
    assert {answer["finish_reason"] for answer in answers.values()} == {"stop"}
