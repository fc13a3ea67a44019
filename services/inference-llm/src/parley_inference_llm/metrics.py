"""Prometheus metrics of this service; README.md says what each is for. vLLM's own (`vllm:*`) stand beside them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 90)
TIME_TO_FIRST_TOKEN = Histogram(
    "parley_llm_time_to_first_token_seconds", "From the engine's start on a request to its first token.", buckets=_TIMES
)
INTER_TOKEN = Histogram("parley_llm_inter_token_latency_seconds", "Time per token after the first.", buckets=_TIMES)
TOKENS = Counter("parley_llm_tokens_total", "Tokens by kind: input, output.", ["kind"])
RUNNING = Gauge("parley_llm_running_requests", "Answers that are being written or wait in the engine.")
LOAD_SECONDS = Gauge("parley_llm_engine_load_seconds", "How long the engine took to start.")
