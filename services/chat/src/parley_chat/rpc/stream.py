"""What the streaming answers share."""

from __future__ import annotations

from typing import Final

# Envoy makes these response headers. The last one is what the AI SDK knows its protocol by.
STREAM_HEADERS: Final = (
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
    ("x-vercel-ai-ui-message-stream", "v1"),
)
