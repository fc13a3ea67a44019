"""parley-tiny-chat: a Llama with random weights that writes words.

Random weights alone would write every byte there is. So the first dimension of the residual stream is kept constant
(every embedding has it, no layer writes it), which gives the output layer a bias: tokens that are not plain English
text get a very low one, the end of the answer a low one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20261121
WINDOW = 2048  # tokens
VOCABULARY = 768
HIDDEN = 128
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CONSTANT = 4.0  # value of the constant dimension, large beside the others (0.02 to 1)
NEVER, SELDOM = -40.0, -2.5  # logits, roughly
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = """
A small model writes words that mean nothing, and it writes them one after the other, as quickly as the machine can.
The answer is streamed token by token, the bill is counted token by token, and both are always right. When the line
breaks, the phone comes back for the rest; when a server dies, another one goes on from there. What you have paid for is
yours, and what was not made is not charged. Ask again, ask for more, ask in other words: there will be another answer.
People talk about the weather, the sea, the mountains, about bread and music, about children, friends and time. They
want to know how far it is to the moon, why the sky is blue, who wrote this book, and what they should cook tonight.
Perhaps, however, because, although, therefore, nothing, something, everything, morning, evening, yesterday, tomorrow.
"""


def build(folder: Path) -> None:
    """Write the model into a folder."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    model = _model(tokenizer)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.8,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder, safe_serialization=True)


def _tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXT.replace("\n", " ").split(". "), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=TEMPLATE,
        model_max_length=WINDOW,
        clean_up_tokenization_spaces=False,
    )


def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.endswith("norm.weight"):
                weight.normal_(0, 0.4 if "embed" in name else 0.25)
        model.model.embed_tokens.weight[:, 0] = CONSTANT
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        bias = torch.zeros(len(tokenizer))
        for token in range(len(tokenizer)):
            if not _is_plain(tokenizer.decode([token])):
                bias[token] = NEVER
        bias[tokenizer.eos_token_id] = SELDOM
        model.lm_head.weight[:, 0] = bias * _per_unit(model)
    return model.to(torch.bfloat16)


def _per_unit(model: LlamaForCausalLM) -> float:
    """Return what the constant dimension must be multiplied with to be 1 after the last norm, for a typical token."""
    tokens = torch.arange(3, 259).unsqueeze(0)
    hidden = model.model(tokens).last_hidden_state[0, :, 0]
    return float(1 / hidden.mean())


def _is_plain(text: str) -> bool:
    """Whether a token is a word or the start of one, with or without the space before it, or ends a clause."""
    word = text.removeprefix(" ")
    return word in {",", ".", "?", ":"} or (len(word) > 2 and word.isascii() and word.isalpha())
