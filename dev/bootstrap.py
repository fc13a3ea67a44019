"""Makes `.venv` what the locks say and generates the stubs; everything `make` needs before anything of ours can run.

Runs on a bare python3.11 with nothing installed. A second run that finds nothing to do takes a few hundredths of a
second: what was done is stamped in `.venv/parley.json`.

    python3.11 dev/bootstrap.py [--dev]      --dev adds the tools of tests and checks

PARLEY_ACCELERATOR=cpu|cuda overrides what is found about the machine. Where pip is configured for other indexes or
wheel folders (pip.conf, PIP_FIND_LINKS, …), uv is handed the same.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "parley.json"
LOCKS = ROOT / "requirements"
GENERATED = ROOT / "proto" / "gen" / "parley.binpb"
SOURCES = ("proto/gen", *(f"services/{name}/src" for name in (
    "kit", "auth", "registry", "billing", "chat", "inference-llm", "inference-image")), "dev/src")  # fmt: skip
NEEDED_GIB = {"cpu": 6, "cuda": 16}


class CannotContinueError(Exception):
    """One readable cause, with its remedy."""


def main() -> int:
    """Do what is missing; exit status 1 and one cause when that is impossible."""
    parser = argparse.ArgumentParser(description="Install Parley into this checkout's .venv and generate its stubs.")
    parser.add_argument("--dev", action="store_true", help="also install what tests and checks need")
    arguments = parser.parse_args()
    # Set where containers are built; here it would cost every start of vLLM half a minute.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PATH"] = (
        f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"  # protoc looks for its plug-ins there
    )
    try:
        check_machine()
        with only_one():
            set_up(dev=arguments.dev)
    except CannotContinueError as error:
        print(f"\nSet-up stopped: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nSet-up stopped: {error}. Is the checkout yours to write, and is the disk full?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


def check_machine() -> None:
    """Refuse a machine or Python that the locks are not for."""
    if sys.version_info[:2] != (3, 11):
        raise CannotContinueError(
            f"this is Python {platform.python_version()}, the locked packages are for 3.11. "
            "Install python3.11 or say where it is: make PYTHON=/path/to/python3.11 …"
        )
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise CannotContinueError(
            f"this is {platform.system()} on {platform.machine()}; Envoy, Postgres and vLLM come as builds for Linux on x86-64."
        )


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Let a second set-up of the same checkout wait for the first."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up of this checkout.", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def set_up(*, dev: bool) -> None:
    """Bring the environment, the path file and the stubs up to date, each only when its inputs changed."""
    kind = accelerator()
    done = stamped()
    if done.get("root") != str(ROOT) or not PYTHON.exists():  # moved, copied, or its base Python is gone
        make_environment(kind)
        done = {"root": str(ROOT)}
    locks = ["cpu" if kind == "cpu" else "gpu"]
    if dev or "dev" in done.get("locks", {}):  # once there, the tools stay up to date
        locks.append("dev")
    wanted = {name: digest([LOCKS / f"{name}.txt"]) for name in locks}
    if done.get("locks") != wanted:
        install(locks, kind)
        done |= {"locks": wanted, "stubs": None}
        stamp(done)
    write_path_file()
    protos = digest([ROOT / "proto" / "generate.py", *sorted((ROOT / "proto" / "parley").rglob("*.proto"))])
    if done.get("stubs") != protos or not GENERATED.exists():
        step("Generating stubs and the descriptor set", [PYTHON, ROOT / "proto" / "generate.py"])
        stamp(done | {"stubs": protos})


def accelerator() -> str:
    """Return `cuda` when this machine has an NVIDIA GPU, else `cpu`; PARLEY_ACCELERATOR decides otherwise."""
    asked = os.environ.get("PARLEY_ACCELERATOR", "")
    if asked in NEEDED_GIB:
        return asked
    if asked:
        raise CannotContinueError(f"PARLEY_ACCELERATOR={asked} is neither cpu nor cuda.")
    gpus = Path("/proc/driver/nvidia/gpus")
    if gpus.is_dir() and any(gpus.iterdir()):
        return "cuda"
    tool = shutil.which("nvidia-smi")  # WSL has this one only
    found = tool and subprocess.run([tool, "-L"], capture_output=True, check=False, text=True).stdout
    return "cuda" if found and found.startswith("GPU ") else "cpu"


def make_environment(kind: str) -> None:
    """Create .venv with pip in it."""
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < NEEDED_GIB[kind]:
        raise CannotContinueError(
            f"{ROOT} has {free:.1f} GiB free, the packages need about {NEEDED_GIB[kind]}. Make room or check out elsewhere."
        )
    if VENV.exists():
        print("Replacing .venv: it was made for another path or Python.", flush=True)
        shutil.rmtree(VENV)
    remedy = "Is venv installed? On Debian and Ubuntu: apt-get install python3.11-venv"
    step("Making the virtual environment .venv", [base_python(), "-m", "venv", VENV], remedy)


def base_python() -> str:
    """Return the Python outside of any virtual environment: the one that is active may be the one being replaced."""
    return str(getattr(sys, "_base_executable", sys.executable))


def install(locks: list[str], kind: str) -> None:
    """Install the locks by uv, every file checked against its hash; uv itself by pip, likewise."""
    main_lock = blocks(LOCKS / f"{locks[0]}.txt")
    scratch = VENV / "parley-locks"
    scratch.mkdir(exist_ok=True)
    (scratch / "uv.txt").write_text(main_lock["uv"])
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--require-hashes"]
    step("Installing uv", [*pip, "-r", scratch / "uv.txt"])
    pip_says = pip_settings()
    options, environment = handed_on(pip_says)
    uv = [
        VENV / "bin" / "uv",
        "pip",
        "install",
        "--python",
        PYTHON,
        "--no-deps",
        "--require-hashes",
    ]  # the locks are whole
    remedy = "The lines above say which package. Without a network, point pip at a folder of wheels: PIP_FIND_LINKS=…"
    if kind == "cpu" and not any(any(Path(f).glob("torch-*cpu*")) for f in pip_says.get("find-links", "").split()):
        # torch's build for CPUs is on an index of its own that uv knows; alone, so that no other name is looked up there.
        (scratch / "torch.txt").write_text(main_lock.pop("torch"))
        step(
            "Installing torch for CPUs", [*uv, "--torch-backend=cpu", "-r", scratch / "torch.txt"], remedy, environment
        )
    (scratch / "main.txt").write_text("".join(main_lock.values()))
    files = [scratch / "main.txt", *(LOCKS / f"{name}.txt" for name in locks[1:])]
    step(
        f"Installing about {len(main_lock)} packages for {kind} into .venv (once; some minutes, mostly downloads)",
        [*uv, *options, *(part for file in files for part in ("-r", file))],
        remedy,
        environment,
    )


def blocks(lock: Path) -> dict[str, str]:
    """Split a lock into its requirements: name to text with hashes."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.read_text().splitlines(keepends=True):
        if start := re.match(r"([A-Za-z0-9_.-]+)(\[.*\])?==", line):
            name = start[1]
            found[name] = ""
        if name:
            found[name] += line
    return found


def pip_settings() -> dict[str, str]:
    """Return pip's configuration as pip itself sees it, files and environment together."""
    listed = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    rows = [line.split("=", 1) for line in listed.splitlines() if "=" in line]
    rows.sort(key=lambda row: (row[0].startswith(":env:"), row[0].startswith("install.")))  # the strongest last
    return {key.removeprefix(":env:").rpartition(".")[2]: str(ast.literal_eval(value)) for key, value in rows}


def handed_on(pip: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return uv's options and environment that say what pip's settings say."""
    options: list[str] = []
    for theirs, ours in (("index-url", "default-index"), ("extra-index-url", "index"), ("find-links", "find-links")):
        options += [f"--{ours}={value}" for value in pip.get(theirs, "").split()]
    if pip.get("extra-index-url"):
        options.append("--index-strategy=unsafe-best-match")  # pip's own behaviour; the hashes decide what is taken
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        options.append("--no-index")
    environment = {} if sys.stdout.isatty() else {"UV_NO_PROGRESS": "1"}
    if pip.get("cert") and "SSL_CERT_FILE" not in os.environ:
        environment["SSL_CERT_FILE"] = pip["cert"]
    return options, environment


def write_path_file() -> None:
    """Put our source folders on the environment's path.

    One .pth file rather than nine editable installs: those need a build backend, take seconds, and end in the same.
    """
    text = "".join(f"{ROOT / source}\n" for source in SOURCES)
    file = VENV / "lib" / "python3.11" / "site-packages" / "parley.pth"
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def step(title: str, command: Iterable[object], remedy: str = "", environment: dict[str, str] | None = None) -> None:
    """Run one command under a title, with a sign of life every ten seconds; its output is shown as it comes."""
    print(f"{title}.", flush=True)
    began = time.monotonic()
    ended = threading.Event()

    def show_life() -> None:
        while not ended.wait(10):
            print(f"  … {time.monotonic() - began:.0f} s", flush=True)

    threading.Thread(target=show_life, daemon=True).start()
    try:
        status = subprocess.run([str(part) for part in command], env=os.environ | (environment or {}), check=False)
    finally:
        ended.set()
    if status.returncode:
        raise CannotContinueError(f"“{title}” failed with exit status {status.returncode}. {remedy}")
    print(f"  done in {time.monotonic() - began:.1f} s", flush=True)


def digest(files: Iterable[Path]) -> str:
    """Return one hash of the names and contents of files."""
    state = hashlib.sha256()
    for file in files:
        if not file.exists():
            raise CannotContinueError(f"{file.relative_to(ROOT)} is missing: this checkout is incomplete.")
        state.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return state.hexdigest()


def stamped() -> dict[str, Any]:
    """Return what earlier runs did; nothing when that cannot be read."""
    try:
        done = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return done if isinstance(done, dict) else {}


def stamp(done: dict[str, Any]) -> None:
    """Remember what was done."""
    STAMP.write_text(json.dumps(done))


if __name__ == "__main__":
    sys.exit(main())
