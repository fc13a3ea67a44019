"""Auth's own Prometheus metrics; README.md lists them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

sign_ins = Counter("parley_auth_sign_ins_total", "Sign-ins by password, by result.", ["result"])
refreshes = Counter("parley_auth_refreshes_total", "Uses of refresh tokens, by result.", ["result"])
accounts_deleted = Counter("parley_auth_accounts_deleted_total", "Accounts deleted, by cause.", ["cause"])
erasures = Counter("parley_auth_erasures_total", "Users erased in another service, by service.", ["service"])
erasures_overdue = Gauge("parley_auth_erasures_overdue", "Erasures asked for more than an hour ago and not done.")
welcomes = Counter("parley_auth_welcomes_total", "Accounts with a proved address that billing welcomed.", ["result"])
mails = Counter("parley_auth_mails_total", "Mails, by what came of them.", ["result"])
sessions_ended = Counter("parley_auth_sessions_ended_total", "Sessions ended before they expired, by cause.", ["cause"])
password_changes = Counter("parley_auth_password_changes_total", "Changes of passwords, by result.", ["result"])
second_factors = Counter(
    "parley_auth_second_factors_total", "Codes of second factors, by method and result.", ["method", "result"]
)
second_factor_changes = Counter(
    "parley_auth_second_factor_changes_total", "Second factors turned on and off, by event.", ["event"]
)
reauthentications = Counter("parley_auth_reauthentications_total", "Sessions that were proved again.")
passkeys = Counter("parley_auth_passkeys_total", "Passkeys added and deleted, by event.", ["event"])
passkey_sign_ins = Counter("parley_auth_passkey_sign_ins_total", "Sign-ins by passkeys, by result.", ["result"])
oidc_sign_ins = Counter("parley_auth_oidc_sign_ins_total", "Sign-ins by id tokens, by result.", ["result"])
oidc_key_fetches = Counter(
    "parley_auth_oidc_key_fetches_total", "Fetches of an issuer's keys, by issuer and result.", ["issuer", "result"]
)
identity_links = Counter("parley_auth_identity_links_total", "Links of identities to accounts, by event.", ["event"])
guesses_refused = Counter("parley_auth_guesses_refused_total", "Passwords not looked at after too many wrong ones.")
admin_actions = Counter("parley_auth_admin_actions_total", "What operators asked to be done with accounts.", ["action"])
api_keys = Counter("parley_auth_api_keys_total", "API keys by what became of them.", ["change"])
key_exchanges = Counter("parley_auth_key_exchanges_total", "API keys presented at the edge, by result.", ["result"])
hashes_pending = Gauge("parley_auth_hashes_pending", "Password hashes running or waiting for a thread.")
hashes_refused = Counter("parley_auth_hashes_refused_total", "Password hashes refused because too many were waiting.")
