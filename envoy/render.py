"""Renders envoy.yaml, the one source of Envoy's configuration, for one machine or pod.

    python envoy/render.py EDGE_PORT=8080 … > envoy.rendered.yaml

Placeholders are string.Template's `${NAME}`; README.md lists them. `TRACING` and `GLOBAL_LIMIT` are not given but made here:
the text of tracing.yaml when OTLP_HOST is set and not empty, of global_limit.yaml when RATE_LIMIT_HOST is, nothing otherwise.
"""

from __future__ import annotations

import re
import string
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
_BLOCKS = re.compile(r"^( *)\$\{(TRACING|GLOBAL_LIMIT)\}$", re.MULTILINE)
LIMITS = {"ADDRESS_PER_MINUTE": "1200", "USER_PER_MINUTE": "600", "CREDENTIALS_PER_MINUTE": "30", "TRUSTED_HOPS": "0"}
"""Rate limits and whom to believe about addresses: the defaults, which README.md explains."""
_HOSTS = {"TRACING": "OTLP_HOST", "GLOBAL_LIMIT": "RATE_LIMIT_HOST"}
# These clusters exist either way; nobody calls them then.
_NOWHERE = {"OTLP_HOST": "127.0.0.1", "OTLP_PORT": "4317", "RATE_LIMIT_HOST": "127.0.0.1", "RATE_LIMIT_PORT": "8081"}


def render(values: Mapping[str, str]) -> str:
    """Return the configuration with every placeholder filled in; KeyError names one that `values` and the defaults lack."""
    blocks = {name: _block(name) if values.get(host) else "# Not here." for name, host in _HOSTS.items()}
    template = (HERE / "envoy.yaml").read_text()
    text = _BLOCKS.sub(lambda found: textwrap.indent(blocks[found[2]], found[1]), template)
    given = {name: value for name, value in values.items() if value}
    return string.Template(text).substitute(LIMITS | _NOWHERE | given)


def _block(name: str) -> str:
    return (HERE / f"{name.lower()}.yaml").read_text().rstrip()


if __name__ == "__main__":
    sys.stdout.write(render(dict(argument.split("=", 1) for argument in sys.argv[1:])))
