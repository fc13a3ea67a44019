"""Signing keys as files of a folder, each named after the moment from which it signs; and how the next one is made."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import re
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from parley_auth.signing_keys import CannotSign, SigningKey

FIRST = "signing-key.pem"
"""A key without a moment: it has always begun."""
_NAME = re.compile(r"\d{8}T\d{6}Z\.pem")
_FORMAT = "%Y%m%dT%H%M%SZ.pem"
_ALWAYS = dt.datetime.min.replace(tzinfo=dt.UTC)


def load_key(path: Path) -> ECKey:
    """Read the PEM of a P-256 private key; CannotSign says what is wrong."""
    try:
        key = ECKey.import_key(path.read_bytes())
    except (OSError, ValueError, JoseError) as error:
        raise CannotSign(f"The signing key {path} cannot be read: {error}") from None
    if not key.is_private or key.curve_name != "P-256":
        raise CannotSign(f"The signing key {path} must be a private key on the curve P-256.")
    return key


def read_keys(folder: Path) -> list[SigningKey]:
    """Read every key of a folder, the oldest first; CannotSign when one of them is none."""
    if not folder.is_dir():
        raise CannotSign(f"The folder of signing keys {folder} does not exist.")
    return [SigningKey(begins, load_key(file)) for begins, file in _files(folder)]


def rotate(folder: Path, *, now: dt.datetime, lead: dt.timedelta, longest: dt.timedelta) -> Path:
    """Add a key that signs from `now` + `lead` on, and delete those whose last token has long expired; return its file.

    CannotSign when the folder's keys are not in order, or one of them is still to come: so rotating twice is rotating once.
    """
    keys = read_keys(folder)
    coming = [file.name for begins, file in _files(folder) if begins > now]
    if coming:
        raise CannotSign(f"{coming[0]} is still to come: nothing to do until it signs.")
    if not keys:
        raise CannotSign(f"There is no key in {folder}.")
    made = folder / f"{now + lead:{_FORMAT}}"
    _write(made, ECKey.generate_key("P-256", private=True).as_pem(private=True))
    # The last of those that have begun signs until the new one does; any before it has been replaced since at least then.
    begun = _files(folder)[:-1]
    for (_, file), (replaced, _) in itertools.pairwise(begun):
        if replaced + longest < now:
            file.unlink()
    return made


def _files(folder: Path) -> list[tuple[dt.datetime, Path]]:
    found = [(_begins(file), file) for file in folder.glob("*.pem")]
    return sorted(found)


def _begins(file: Path) -> dt.datetime:
    if file.name == FIRST:
        return _ALWAYS
    if _NAME.fullmatch(file.name):
        with contextlib.suppress(ValueError):
            return dt.datetime.strptime(file.name, _FORMAT).replace(tzinfo=dt.UTC)
    raise CannotSign(
        f"{file} is not named after the moment from which it signs, like 20261126T120000Z.pem, nor {FIRST}."
    )


def _write(path: Path, pem: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all: auth may read the folder at any moment."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    making.rename(path)
