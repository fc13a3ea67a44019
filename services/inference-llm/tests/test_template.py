"""Chat templates that do not take every conversation."""

from types import SimpleNamespace

import pytest
from parley_inference_llm.engine import ChatMessage
from parley_inference_llm.vllm_engine import VllmEngine
from parley_kit.errors import InvalidArgument
from transformers import AutoTokenizer

from .world import MODEL


def test_a_conversation_that_the_template_refuses_is_the_callers_fault(models):
    tokenizer = AutoTokenizer.from_pretrained(models / MODEL)
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    config = SimpleNamespace(model_config=SimpleNamespace(get_diff_sampling_param=dict, max_model_len=2048))
    engine = VllmEngine(SimpleNamespace(get_tokenizer=lambda: tokenizer), config)
    assert engine.render([ChatMessage("user", "Hello!")])
    with pytest.raises(InvalidArgument) as refused:
        engine.render([ChatMessage("system", "Be brief."), ChatMessage("user", "Hello!")])
    assert refused.value.fields[0].field == "messages"
