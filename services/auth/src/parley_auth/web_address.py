"""Which URLs may be trusted with keys and passkeys."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, by its name or number."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_secure(url: str) -> bool:
    """Whether a URL is https with a host and without a user, or plain http to this machine."""
    try:
        parts = urlsplit(url)
        plain = parts.username is None and parts.password is None and bool(parts.hostname)
    except ValueError:
        return False
    return plain and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url)))
