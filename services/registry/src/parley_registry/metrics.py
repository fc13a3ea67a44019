"""The registry's own Prometheus metrics; README.md lists them."""

from __future__ import annotations

from prometheus_client import Gauge

REPLICAS = Gauge("parley_living_replicas", "Replicas with a living lease, as the last sweep saw them.", ["model"])
