"""Opaque page tokens: the key of the last row, encoded."""

from __future__ import annotations

import base64
import binascii
import json

from parley_kit.errors import InvalidArgument


def encode(*key: str) -> str:
    """Return a page token for the rows after `key`."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode(token: str, parts: int) -> tuple[str, ...]:
    """Return the key of a page token; InvalidArgument(pageToken) when it is not one of ours with `parts` parts."""
    try:
        key = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != parts or not all(isinstance(part, str) for part in key):
        raise InvalidArgument("pageToken", "is not a page token of this list; leave it out for the first page")
    return tuple(key)
