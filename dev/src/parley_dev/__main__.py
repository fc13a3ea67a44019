"""python -m parley_dev: run · token · rotate-keys · verify · forget. The Makefile calls these."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Annotated

import typer

from parley_dev.config import CannotRunError, Mesh

app = typer.Typer(
    help="Parley on this machine.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def run() -> None:
    """Run the whole mesh until Ctrl-C. Settings: dev/README.md."""
    from parley_dev.run import run_until_stopped  # noqa: PLC0415 - imports gRPC, which the other commands do not need

    raise SystemExit(asyncio.run(run_until_stopped(Mesh.from_env())))


@app.command()
def token(
    holder: Annotated[
        str, typer.Argument(help="`operator` (role admin) or a service's name (role service).")
    ] = "operator",
) -> None:
    """Print an access token for the internal port; it lasts 15 minutes."""
    from parley_dev.token import operator_token  # noqa: PLC0415 - imports gRPC

    print(asyncio.run(operator_token(Mesh.from_env(), holder)))


@app.command()
def rotate_keys() -> None:
    """Make the next key that signs access tokens, by auth's own command; a running mesh sees it by itself."""
    mesh = Mesh.from_env()
    env = os.environ | {"PARLEY_AUTH_SIGNING_KEYS_DIR": str(mesh.signing_keys)}
    raise SystemExit(
        subprocess.run([sys.executable, "-m", "parley_auth", "rotate-keys"], env=env, check=False).returncode
    )


@app.command()
def verify(fix: Annotated[bool, typer.Option(help="Repair what repairs itself.")] = False) -> None:
    """Run every check that needs no running mesh."""
    from parley_dev.verify import run as run_checks  # noqa: PLC0415

    raise SystemExit(1 if run_checks(fix=fix) else 0)


@app.command()
def forget(yes: Annotated[bool, typer.Option(help="Do not ask.")] = False) -> None:
    """Delete this machine's data: accounts, conversations, ledger, pictures, secrets."""
    from parley_dev.forget import forget as delete  # noqa: PLC0415

    mesh = Mesh.from_env()
    if yes or typer.confirm(f"Delete the data in {mesh.home} for good?"):
        delete(mesh)


def main() -> None:
    """Run a command; a cause that has a remedy is told in words, not as a traceback."""
    try:
        app()
    except CannotRunError as error:
        print(f"\n{error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
