import base64
import secrets

import pytest
from parley_auth.sealing import CannotOpen, Sealing, load_keys

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)


def test_what_was_sealed_opens_for_its_owner_only():
    sealing = Sealing([OLD])
    sealed = sealing.seal(b"secret", b"me")
    assert sealing.open(sealed, b"me") == b"secret"
    assert b"secret" not in sealed
    assert sealing.seal(b"secret", b"me") != sealed
    with pytest.raises(CannotOpen):
        sealing.open(sealed, b"you")


@pytest.mark.parametrize("at", [0, 5, -1])
def test_what_was_changed_does_not_open(at):
    sealed = bytearray(Sealing([OLD]).seal(b"secret", b"me"))
    sealed[at] ^= 1
    with pytest.raises(CannotOpen):
        Sealing([OLD]).open(bytes(sealed), b"me")


def test_keys_are_replaced():
    before = Sealing([OLD]).seal(b"secret", b"me")
    both = Sealing([NEW, OLD])
    assert both.open(before, b"me") == b"secret"
    assert Sealing([NEW]).open(both.seal(b"secret", b"me"), b"me") == b"secret"
    with pytest.raises(CannotOpen):
        Sealing([NEW]).open(before, b"me")


def test_the_file(tmp_path):
    file = tmp_path / "sealing-key"
    lines = [base64.urlsafe_b64encode(NEW).decode(), base64.urlsafe_b64encode(OLD).decode().rstrip("=")]
    file.write_text("\n".join(lines) + "\n")
    assert load_keys(file) == [NEW, OLD]


@pytest.mark.parametrize("text", ["", "short", "!" * 43, base64.urlsafe_b64encode(b"x" * 31).decode()])
def test_a_file_that_has_no_keys_is_refused_at_the_start(tmp_path, text):
    file = tmp_path / "sealing-key"
    file.write_text(text)
    with pytest.raises(SystemExit, match="sealing-key"):
        load_keys(file)
    with pytest.raises(SystemExit):
        load_keys(tmp_path / "absent")
