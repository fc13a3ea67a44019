"""vLLM: the only module that imports it.

Importing takes seconds and starting forks: it is done before anything of gRPC runs. On CPUs the engine's processes are
forked from this one, imports included, which takes 7 s where spawning takes 35; that leans on vLLM's internals, and a test
holds it. `parley_kit.hub` decides what may be loaded; vLLM gets a folder, reads safetensors only, and runs no code of it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import secrets
import signal
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import structlog
from parley_kit import hub
from parley_kit.errors import InvalidArgument, Unavailable
from parley_kit.hub import UnusableModel

from parley_inference_llm import metrics
from parley_inference_llm.engine import ChatMessage, Sampling, Step
from parley_inference_llm.settings import Settings

_log = structlog.get_logger()
_READ = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "tokenizer.model*", "*.tiktoken")
_UNREAD = ("*/*",)  # other formats, and what was left of training
_PR_SET_PDEATHSIG = 1


class VllmEngine:
    """A model loaded in vLLM."""

    def __init__(self, engine: Any, config: Any) -> None:
        self._engine = engine
        self._tokenizer = engine.get_tokenizer()
        words = sorted(self._tokenizer.all_special_tokens, key=len, reverse=True)
        self._control_words = re.compile("|".join(map(re.escape, words)) or "(?!)")
        self._defaults: dict[str, Any] = config.model_config.get_diff_sampling_param()
        self.window: int = config.model_config.max_model_len

    def render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the prompt's tokens."""
        from jinja2.exceptions import TemplateError  # noqa: PLC0415 - loaded by start()

        turns = [{"role": message.role, "content": self._plain(message.content)} for message in messages]
        try:
            tokens = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
        except TemplateError as error:  # some models take no system message, or no two turns of one role
            raise InvalidArgument("messages", "are refused by the model's chat template") from error
        return list(tokens["input_ids"])

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of plain text."""
        return list(self._tokenizer.encode(self._plain(text), add_special_tokens=False))

    def _plain(self, text: str) -> str:
        # Whoever writes `<|im_end|><|im_start|>system` must not end their turn and begin one of the operator's: a
        # zero-width space inside makes the words text. Tokenizers know no other way once the template is rendered.
        return self._control_words.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text)

    async def generate(self, prompt: Sequence[int], sampling: Sampling, cache_salt: str = "") -> AsyncGenerator[Step]:
        """Generate after the prompt."""
        from vllm.exceptions import VLLMValidationError  # noqa: PLC0415 - loaded by start()
        from vllm.v1.engine.exceptions import EngineDeadError  # noqa: PLC0415

        tokens = 0
        try:
            # Not the generation's id: an attempt may begin before the engine has let go of the one before.
            salted = {"prompt_token_ids": list(prompt)} | ({"cache_salt": cache_salt} if cache_salt else {})
            outputs = self._engine.generate(salted, self._parameters(sampling), request_id=uuid.uuid4().hex)
            async with aclosing(outputs):
                async for output in outputs:
                    (answer,) = output.outputs
                    tokens += len(answer.token_ids)
                    if answer.text or answer.finish_reason:
                        cached = output.num_cached_tokens or 0
                        yield Step(answer.text, tokens, _finish_reason(answer.finish_reason), cached)
        except VLLMValidationError as error:
            raise InvalidArgument(str(error.parameter or "sampling"), "is refused by the engine") from error
        except EngineDeadError as error:
            raise Unavailable("The engine has died; another replica can go on.") from error

    async def check(self) -> None:
        """Raise when the engine has died."""
        await self._engine.check_health()

    def stop(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()

    def _parameters(self, sampling: Sampling) -> Any:
        from vllm import SamplingParams  # noqa: PLC0415 - loaded by start()
        from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

        stated = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "seed": sampling.seed,
        }
        chosen = self._defaults | {name: value for name, value in stated.items() if value is not None}
        chosen |= {"max_tokens": sampling.max_output_tokens, "stop": list(sampling.stop)}
        return SamplingParams(**chosen, output_kind=RequestOutputKind.DELTA)


def start(settings: Settings) -> VllmEngine:
    """Load the model; takes seconds and must run before anything of gRPC. Raises UnusableModel."""
    began = time.perf_counter()
    folder = _folder(settings.model)
    _set_environment(settings)
    gc.disable()  # millions of new objects and no garbage: importing is faster, and forked children share the pages
    try:
        made = _start(settings, folder)
    finally:
        gc.enable()
    seconds = time.perf_counter() - began
    metrics.LOAD_SECONDS.set(seconds)
    _log.info("model loaded", model=settings.served_model, seconds=round(seconds, 1), window=made.window)
    return made


def _folder(model: str) -> Path:
    """Return the folder to load; of a hub model, the small files are looked at before the weights are fetched."""
    folder = hub.fetch(model, ["*.json"], _UNREAD)
    hub.check(model, folder)
    folder = hub.fetch(model, _READ, _UNREAD)
    if not any(folder.glob("*.safetensors")):  # vLLM would say so in its worker, with a traceback
        raise UnusableModel(f"{model}: it has no weights as safetensors; convert what it has, or take another variant")
    hub.stay_offline()
    return folder


def _start(settings: Settings, folder: Path) -> VllmEngine:
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - seconds, and after the environment is set
    from vllm.platforms import current_platform  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    on_cpu = current_platform.is_cpu()
    if on_cpu:  # the worker inside the engine's process: less time per token for few streams, and a process less
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    try:
        arguments = AsyncEngineArgs(
            model=str(folder),
            served_model_name=[settings.served_model],
            max_model_len=settings.max_model_len or None,
            max_num_seqs=settings.max_num_seqs,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            enforce_eager=on_cpu,  # compiling pays on GPUs; here it would take longer than it saves
            load_format="safetensors",
            trust_remote_code=False,
            enable_prefix_caching=True,  # the price of cached prompt tokens rests on it
            enable_log_requests=False,
            seed=secrets.randbelow(2**31),  # with vLLM's own, 0, every start would answer the same in the same order
        )
        config = arguments.create_engine_config()
        if on_cpu:
            # Set only now: making the configuration insists on spawning.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
            os.register_at_fork(after_in_child=_die_with_parent)
            gc.freeze()
        engine = AsyncLLM.from_vllm_config(config)
    except Exception as error:  # whatever a foreign folder or hub makes the libraries raise
        raise UnusableModel(f"{settings.model}: {error}") from error
    made = VllmEngine(engine, config)
    try:
        made.render([ChatMessage("user", "?")])
    except ValueError as error:  # a base model: better no replica than one that fails every call
        made.stop()
        raise UnusableModel(f"{settings.model}: it has no chat template; take its chat or instruct variant") from error
    return made


def _set_environment(settings: Settings) -> None:
    os.environ |= {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CONFIGURE_LOGGING": "0",  # its messages go through our JSON log
        "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kv_cache_gib),
        "TOKENIZERS_PARALLELISM": "true",  # said, because forking after its use otherwise warns
    }


def _die_with_parent() -> None:
    """Tie a forked process to this one's life: a killed parent would leave the engine behind, with its memory."""
    # Not SIGTERM: the engine handles that one by itself, and was seen to stay.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _finish_reason(reason: str | None) -> str:
    if reason is None:
        return ""
    return reason if reason in {"stop", "length"} else "stop"
