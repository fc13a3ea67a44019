"""Prometheus metrics of this service; README.md says what each is for."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

TIME_TO_FIRST_TOKEN = Histogram(
    "parley_chat_time_to_first_token_seconds",
    "From the request to the first text.",
    ["model"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
INTER_TOKEN = Histogram(
    "parley_chat_inter_token_seconds",
    "Time a token takes after the first.",
    ["model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
TOKENS = Counter("parley_chat_tokens", "Tokens of ended generations, by the engine's count.", ["model", "direction"])
GENERATIONS = Counter("parley_chat_generations", "Ended generations.", ["model", "state"])
RUNNING = Gauge("parley_chat_generations_running", "Generations that this replica runs.")
TAKEOVERS = Counter("parley_chat_takeovers", "Generations taken over from a replica that died or stopped.")
LOST = Counter("parley_chat_lost_leases", "Generations that another replica took from this one.")
ENGINE_FAILURES = Counter("parley_chat_engine_failures", "Attempts of an engine that failed.", ["model"])
OUTBOX_DEPTH = Gauge("parley_chat_outbox_depth", "Settlements and releases that billing has not acknowledged.")
FALLBACKS = Counter("parley_chat_fallbacks", "Answers by another model than was asked for.", ["model", "served"])
PLANS_UNKNOWN = Counter("parley_chat_plans_unknown", "Users' plans that billing did not tell: the default counted.")
EXTENSIONS = Counter("parley_chat_hold_extensions", "Holds that were extended by a slice.")
EXTENSIONS_REFUSED = Counter("parley_chat_hold_extensions_refused", "Answers that no more could be held for.")
REFUSED = Counter("parley_chat_settlements_refused", "Settlements that billing refused for good: delivered, not paid.")
