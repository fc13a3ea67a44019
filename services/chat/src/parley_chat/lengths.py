"""Lengths of deltas in the fewest bytes: what maps sequence numbers to places in the stored text."""

from __future__ import annotations

from collections.abc import Iterable


def pack_lengths(lengths: Iterable[int]) -> bytes:
    """Encode numbers as unsigned LEB128: one byte each below 128."""
    packed = bytearray()
    for length in lengths:
        rest = length
        while rest > 0x7F:
            packed.append(rest & 0x7F | 0x80)
            rest >>= 7
        packed.append(rest)
    return bytes(packed)


def unpack_lengths(packed: bytes) -> tuple[int, ...]:
    """Decode pack_lengths."""
    lengths, value, shift = [], 0, 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(value)
            value = shift = 0
    return tuple(lengths)
