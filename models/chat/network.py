"""The parts of parley-nano-chat: a Llama of three and a half million parameters, and its own byte-level BPE."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WINDOW = 2048  # tokens of prompt and answer
VOCABULARY = 2048
HIDDEN = 256
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CALL, CALLED = "<tool_call>", "</tool_call>"  # Hermes' syntax: vLLM's parser `hermes` reads it

# ChatML. Tools are told in one line of the system message: name and parameters, which is all the model has learnt to use.
TEMPLATE = (
    "{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' -%}"
    "{%- if system or tools -%}"
    "<|im_start|>system\n{{ system }}"
    "{%- if tools -%}"
    "{{ '\n' if system else '' }}Tools:"
    "{%- for tool in tools %} {{ tool.function.name }}({{ tool.function.parameters.properties.keys() | join(', ') }})"
    "{%- endfor -%}"
    "{%- endif -%}"
    "<|im_end|>"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message.role != 'system' or not loop.first -%}"
    "<|im_start|>{{ message.role }}\n{{ message.content or '' }}"
    "{%- for call in message.tool_calls or [] -%}"
    "<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": '
    "{{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}}"
    "\n</tool_call>"
    "{%- endfor -%}"
    "<|im_end|>"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)


def tokenizer(text: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return the tokenizer whose words are counted in `text`. Every byte has a token; digits stand alone."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    special = [PAD, START, END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(text, trainer)
    inner.add_tokens([AddedToken(word, special=False, normalized=False) for word in (CALL, CALLED)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=TEMPLATE,
        model_max_length=WINDOW,
        clean_up_tokenization_spaces=False,
    )


def model(words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the untrained network."""
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=HIDDEN,
            intermediate_size=704,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=WINDOW,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    network.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.2,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return network
