"""The limit on API keys that do not hold: so many an address and minute, in this process's memory."""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

_MOST = 10_000
_WINDOW = dt.timedelta(minutes=1)
_CUSTOMER = 64  # bits of IPv6 that one customer has


class WrongKeys:
    """Counts by IPv4 address and IPv6 /64, as Envoy's buckets do.

    A key has 256 random bits, so this keeps nobody from guessing one; it keeps guesses from costing the database anything.
    So memory is enough, and each replica counts for itself.
    """

    def __init__(self, *, clock: Callable[[], dt.datetime], limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._counted: OrderedDict[str, tuple[dt.datetime, int]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Return after how many seconds the address may try further keys; 0 when it may now."""
        began, count = self._counted.get(_customer(address), (self._clock(), 0))
        left = began + _WINDOW - self._clock()
        return max(1, math.ceil(left.total_seconds())) if count >= self._limit and left > dt.timedelta() else 0

    def count(self, address: str) -> None:
        """Count a key that did not hold."""
        customer, now = _customer(address), self._clock()
        began, count = self._counted.pop(customer, (now, 0))
        self._counted[customer] = (began, count + 1) if began + _WINDOW > now else (now, 1)
        while len(self._counted) > _MOST:
            self._counted.popitem(last=False)


def _customer(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped  # else the whole of IPv4 would be one customer, ::/64
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _CUSTOMER), strict=False))
