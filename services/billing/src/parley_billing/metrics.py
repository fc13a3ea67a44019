"""Billing's own Prometheus metrics; README.md lists them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

HOLDS = Counter("parley_holds_total", "Holds by outcome; README.md lists them.", ["outcome"])
PENDING = Gauge("parley_holds_pending", "Holds that are not resolved, as the last sweep saw them.")
CHARGED = Counter("parley_charged_micros_total", "Micro-credits charged.")
SETTLED_LATE = Counter("parley_holds_settled_late_total", "Holds that were charged after they had expired.")
GRANTED = Counter("parley_granted_micros_total", "Micro-credits given, by kind: grant, promotion, allowance.", ["kind"])
PAYMENT_EVENTS = Counter(
    "parley_payment_events_total",
    "Events of payment providers, by what was made of them: applied, unchanged, ignored, unmatched, refused, replayed.",
    ["provider", "outcome"],
)
EXPIRED = Counter("parley_expired_micros_total", "Micro-credits of allowances that nobody spent in time.")
DRIFT = Gauge(
    "parley_ledger_drift", "What the last audit found wrong, by field of AuditLedgerResponse; must be 0.", ["what"]
)
AUDITED = Gauge("parley_ledger_audited_timestamp_seconds", "When the last audit ended, in seconds since 1970.")
WORK_DRIFT = Gauge(
    "parley_work_drift",
    "Generations and image jobs that do not match their holds, by field of WorkAudit; must be 0.",
    ["service", "what"],
)
WORK_COMPARED = Gauge(
    "parley_work_compared_timestamp_seconds",
    "Up to when each service's work was last compared with its holds, in seconds since 1970.",
    ["service"],
)
