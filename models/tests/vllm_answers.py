"""Answers with real vLLM: `python vllm_answers.py MODEL < cases.json > answers.json`. A process of its own: vLLM's engine
is started once and ends with it.

A case is {"messages": […], "tools": […] or null, "schema": {…} or null}; an answer {"text", "calls": [{"name",
"arguments"}], "finish_reason"}, the calls read by vLLM's parser `hermes`.
"""

import json
import os
import sys
from contextlib import redirect_stdout
from copy import deepcopy

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
os.environ |= {"VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}

from vllm import LLM, SamplingParams
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser


def main():
    cases = json.load(sys.stdin)
    with redirect_stdout(sys.stderr):  # vLLM prints there
        engine = LLM(sys.argv[1], enforce_eager=True, load_format="safetensors", disable_log_stats=True)
        answers = [ask(engine, **case) for case in cases]
    json.dump(answers, sys.stdout)


def ask(engine, messages, tools=None, schema=None):
    constrained = StructuredOutputsParams(json=schema) if schema else None
    sampling = SamplingParams(max_tokens=200, temperature=0, structured_outputs=constrained)
    request = ChatCompletionRequest(
        model="m", messages=deepcopy(messages), tools=tools
    )  # vLLM changes what it is given
    (answered,) = engine.chat([messages], sampling, tools=tools, use_tqdm=False)
    text = answered.outputs[0].text
    read = Hermes2ProToolParser(engine.get_tokenizer()).extract_tool_calls(text, request)
    calls = [{"name": call.function.name, "arguments": json.loads(call.function.arguments)} for call in read.tool_calls]
    return {"text": text, "calls": calls, "finish_reason": answered.outputs[0].finish_reason}


main()
