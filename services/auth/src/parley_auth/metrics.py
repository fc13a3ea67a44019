"""Auth's own Prometheus metrics; README.md lists them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

sign_ins = Counter("parley_auth_sign_ins_total", "Sign-ins by password, by result.", ["result"])
refreshes = Counter("parley_auth_refreshes_total", "Uses of refresh tokens, by result.", ["result"])
hashes_pending = Gauge("parley_auth_hashes_pending", "Password hashes running or waiting for a thread.")
hashes_refused = Counter("parley_auth_hashes_refused_total", "Password hashes refused because too many were waiting.")
