import json

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from parley_auth.service_tokens import SecretFiles
from parley_kit.errors import ParleyError

from .world import SECRETS, refusal


@pytest.mark.parametrize(("service", "role"), [("chat", "service"), ("operator", "admin")])
async def test_a_secret_earns_a_token(client, service, role):
    answer = await client.issue(service, SECRETS[service])
    body, _ = await client.jwks()
    claims = jwt.decode(answer.access_token, KeySet.import_key_set(json.loads(body.data)), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["role"]) == (f"service:{service}", role)
    assert claims["exp"] - claims["iat"] == answer.expires_in == 900
    assert "sid" not in claims


@pytest.mark.parametrize(
    ("service", "secret"),
    [
        ("chat", SECRETS["operator"]),
        ("chat", SECRETS["chat"] + "x"),
        ("chat", SECRETS["chat"][:-1]),
        ("chat", "ä" * 20),
        ("billing", SECRETS["chat"]),  # has no file
        ("short", "short" + "\0" * 16),
    ],
)
async def test_everybody_else_is_refused_alike(client, service, secret):
    with pytest.raises(ParleyError) as refused:
        await client.issue(service, secret)
    assert refused.value.code == "UNAUTHENTICATED"
    assert refused.value.message == "There is no such service, or the secret is not its secret."


@pytest.mark.parametrize(
    ("service", "secret", "field"),
    [("../chat", SECRETS["chat"], "service"), ("", SECRETS["chat"], "service"), ("chat", "short", "secret")],
)
async def test_names_the_bad_field(client, service, secret, field):
    with pytest.raises(ParleyError) as refused:
        await client.issue(service, secret)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert [error.field for error in refused.value.fields] == [field]


async def test_a_secret_changes_without_a_restart(client, secrets):
    (secrets / "chat").write_text("a-new-secret-0123456789\n")
    assert await refusal(client.issue("chat", SECRETS["chat"])) == "UNAUTHENTICATED"
    await client.issue("chat", "a-new-secret-0123456789")


def test_secret_files(tmp_path):
    (tmp_path / "chat").write_text("0123456789abcdef\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("0123456789abcde")
    (tmp_path / "inner").mkdir()
    files = SecretFiles(tmp_path / "inner")
    assert [files.get(name) for name in ("../chat", "/etc/hostname", "chat", ".", "")] == [None] * 5
    files = SecretFiles(tmp_path)
    assert [files.get(name) for name in ("chat", "empty", "short", "CHAT")] == ["0123456789abcdef", None, None, None]
    with pytest.raises(SystemExit, match="absent"):
        SecretFiles(tmp_path / "absent")
