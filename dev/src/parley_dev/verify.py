"""Every check that needs no running mesh: `make verify`; `make fix` repairs what repairs itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from parley_dev.config import ROOT

_CHECKS = {
    "format": ["ruff", "format", "--check", "--quiet"],
    "lint": ["ruff", "check", "--quiet"],
    "imports": ["lint-imports", "--no-logo"],
    "protos": ["buf", "lint", "proto/gen/buf-image.binpb", "--config", "buf.yaml"],
    "envoy": ["envoy/verify"],
    "types": ["mypy"],
}
_FIXES = {
    "lint": ["ruff", "check", "--fix", "--quiet"],
    "format": ["ruff", "format", "--quiet"],
}


def run(*, fix: bool) -> int:
    """Run all, so that one run shows every problem; returns the number of failures."""
    failed = []
    tools = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHON": sys.executable}
    for name, command in (_FIXES if fix else _CHECKS).items():
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(f"{'ok    ' if done.returncode == 0 else 'FAILED'}  {name}  {time.monotonic() - began:.1f} s", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout, flush=True)
    if failed:
        print(f"verify: {', '.join(failed)} failed" + ("" if fix else "; make fix repairs format and most of lint"))
    return len(failed)
