"""Auth's own Prometheus metrics; README.md lists them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

sign_ins = Counter("parley_auth_sign_ins_total", "Sign-ins by password, by result.", ["result"])
refreshes = Counter("parley_auth_refreshes_total", "Uses of refresh tokens, by result.", ["result"])
mails = Counter("parley_auth_mails_total", "Mails, by what came of them.", ["result"])
sessions_ended = Counter("parley_auth_sessions_ended_total", "Sessions ended before they expired, by cause.", ["cause"])
password_changes = Counter("parley_auth_password_changes_total", "Changes of passwords, by result.", ["result"])
guesses_refused = Counter("parley_auth_guesses_refused_total", "Passwords not looked at after too many wrong ones.")
admin_actions = Counter("parley_auth_admin_actions_total", "What operators asked to be done with accounts.", ["action"])
api_keys = Counter("parley_auth_api_keys_total", "API keys by what became of them.", ["change"])
key_exchanges = Counter("parley_auth_key_exchanges_total", "API keys presented at the edge, by result.", ["result"])
hashes_pending = Gauge("parley_auth_hashes_pending", "Password hashes running or waiting for a thread.")
hashes_refused = Counter("parley_auth_hashes_refused_total", "Password hashes refused because too many were waiting.")
