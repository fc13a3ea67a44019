"""Prometheus metrics of this service; README.md says what each is for."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

QUEUE_DEPTH = Gauge("parley_image_queue_depth", "Queued jobs.", ["model"])
JOB_SECONDS = Histogram(
    "parley_image_job_seconds",
    "From creation to end of a job.",
    ["outcome"],
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 7200),
)
STEP_SECONDS = Histogram(
    "parley_image_step_seconds",
    "Time of one denoising step.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PICTURES = Counter("parley_image_pictures", "Pictures that were made.", ["model"])
RECOVERED = Counter("parley_image_jobs_recovered", "Jobs taken back from workers that died.")
SETTLEMENTS_OUTSTANDING = Gauge(
    "parley_image_settlements_outstanding", "Settlements and releases that billing has not acknowledged."
)
SETTLEMENTS_REFUSED = Counter(
    "parley_image_settlements_refused", "Settlements that billing refused for good: delivered, but not paid."
)
ENGINE_LOAD_SECONDS = Gauge("parley_image_engine_load_seconds", "How long the model took to load.")
