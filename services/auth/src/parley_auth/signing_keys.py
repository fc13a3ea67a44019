"""Which key signs at a moment, and which keys are published then."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from joserfc.jwk import ECKey, KeySet
from parley_kit.identity import ALGORITHM

log = structlog.get_logger()

MARGIN = dt.timedelta(seconds=60)
"""For clocks of replicas that differ, and for the leeway of those who verify."""


class CannotSign(Exception):
    """There is no key to sign with; the text says what is wrong with which file."""


@dataclass(frozen=True)
class SigningKey:
    """A private key and the moment from which it signs."""

    begins: dt.datetime
    key: ECKey


class SigningKeys:
    """The newest key that has begun signs; every replica changes over at the same moment, with nothing to agree about.

    Published are that key, those to come (so that everybody knows one before its first token), and an older one until the
    last token that it may have signed has expired: `longest` is the longest life of a token.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[SigningKey]],
        *,
        clock: Callable[[], dt.datetime],
        longest: dt.timedelta,
        margin: dt.timedelta = MARGIN,
    ) -> None:
        self._read = read
        self._clock = clock
        self._lasts = longest + margin
        self._keys = _checked(read(), clock())
        self._told = self._kids()

    @classmethod
    def only(cls, key: ECKey) -> SigningKeys:
        """Return a set of one key that never changes."""
        keys = [SigningKey(dt.datetime.min.replace(tzinfo=dt.UTC), key)]
        return cls(lambda: keys, clock=lambda: dt.datetime.now(dt.UTC), longest=dt.timedelta())

    async def reload(self) -> None:
        """Read the keys anew. What cannot be read changes nothing: the keys that are known go on."""
        try:
            self._keys = _checked(self._read(), self._clock())
        except CannotSign as error:
            log.error("signing keys cannot be read; the known ones go on", error=str(error))  # noqa: TRY400 - it says all
        kids = self._kids()
        if kids != self._told:
            log.info("signing keys changed", signing=self.current.kid, published=sorted(kid for kid, _ in kids))
            self._told = kids

    @property
    def current(self) -> ECKey:
        """The key that signs now."""
        now = self._clock()
        return next(known.key for known in reversed(self._keys) if known.begins <= now)

    @property
    def published(self) -> list[ECKey]:
        """The keys whose tokens hold now, or will."""
        ends = [later.begins + self._lasts for later in self._keys[1:]]
        expired = sum(end <= self._clock() for end in ends)
        return [known.key for known in self._keys[expired:]]

    @property
    def jwks(self) -> bytes:
        """The JSON Web Key Set (RFC 7517)."""
        keys = [key.as_dict(private=False, use="sig", alg=ALGORITHM) for key in self.published]
        return json.dumps({"keys": keys}, separators=(",", ":")).encode()

    @property
    def key_set(self) -> KeySet:
        """What verifies."""
        return KeySet(list(self.published))

    def _kids(self) -> frozenset[tuple[str, bool]]:
        signing = self.current
        return frozenset((str(key.kid), key is signing) for key in self.published)


def _checked(keys: Sequence[SigningKey], now: dt.datetime) -> list[SigningKey]:
    ordered = sorted(keys, key=lambda known: known.begins)
    if not ordered or ordered[0].begins > now:
        raise CannotSign(
            "No signing key has begun: one must be named after a moment that has passed, or signing-key.pem."
        )
    for known in ordered:
        known.key.ensure_kid()  # RFC 7638 thumbprint
    return ordered
