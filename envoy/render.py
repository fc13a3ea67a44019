"""Renders envoy.yaml, the one source of Envoy's configuration, for one machine or pod.

    python envoy/render.py EDGE_PORT=8080 … > envoy.rendered.yaml

Placeholders are string.Template's `${NAME}`; README.md lists them. `TRACING` is not given but made here: the text of
tracing.yaml when OTLP_HOST is set and not empty, nothing otherwise.
"""

from __future__ import annotations

import re
import string
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
_TRACING = re.compile(r"^( *)\$\{TRACING\}$", re.MULTILINE)
LIMITS = {"ADDRESS_PER_MINUTE": "1200", "USER_PER_MINUTE": "600", "CREDENTIALS_PER_MINUTE": "30", "TRUSTED_HOPS": "0"}
"""Rate limits and whom to believe about addresses: the defaults, which README.md explains."""
_NO_OTLP = {"OTLP_HOST": "127.0.0.1", "OTLP_PORT": "4317"}  # the cluster exists either way; nobody calls it then


def render(values: Mapping[str, str]) -> str:
    """Return the configuration with every placeholder filled in; KeyError names one that `values` and the defaults lack."""
    traced = bool(values.get("OTLP_HOST"))
    block = (HERE / "tracing.yaml").read_text().rstrip() if traced else "# Tracing is off."
    template = (HERE / "envoy.yaml").read_text()
    text = _TRACING.sub(lambda found: textwrap.indent(block, found[1]), template)
    return string.Template(text).substitute({**LIMITS, **values, **({} if traced else _NO_OTLP)})


if __name__ == "__main__":
    sys.stdout.write(render(dict(argument.split("=", 1) for argument in sys.argv[1:])))
