"""`make run`: a mesh in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys

from parley_dev.config import CannotRunError, Mesh
from parley_dev.mesh import RunningMesh
from parley_dev.screen import Screen

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_until_stopped(mesh: Mesh) -> int:
    """Start, say where to go, wait for a signal, stop. Returns the exit status."""
    screen = Screen()
    running = RunningMesh(mesh, screen)
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            screen.say("asked twice: killing everything", "bad")
            running.kill()
        asked.set()

    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop)
    starting = asyncio.create_task(running.start())
    stopping = asyncio.create_task(asked.wait())
    status = 0
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            screen.show(welcome(mesh))
            await stopping
    except CannotRunError as error:
        screen.say(str(error), "bad")
        status = 1
    except OSError as error:  # a full disk, a home of another user
        screen.say(f"{error}. PARLEY_HOME is {mesh.home}.", "bad")
        status = 1
    finally:
        starting.cancel()
        await asyncio.wait({starting})
        await running.stop()
    return status


def welcome(mesh: Mesh) -> str:
    """Return where the mesh listens and three commands to try."""
    python = sys.executable
    edge, internal = mesh.edge_url, mesh.internal_url.removeprefix("http://")
    return f"""
Parley is up.
  edge      {edge}     HTTP/JSON and SSE for apps
  internal  {internal}            gRPC with reflection for operators
  logs      {mesh.logs}/<name>.log

Try, in another terminal:
  # 1. an account; its answer holds accessToken
  curl -s {edge}/v1/auth/signup -d '{{"email":"me@example.com","password":"correct horse battery"}}' -H 'content-type: application/json'

  # 2. a streamed answer, with that token as $TOKEN
  curl -N {edge}/v1/chat/completions -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \\
    -d '{{"model":"default","stream":true,"messages":[{{"role":"user","content":"Hello!"}}]}}'

  # 3. any RPC, as an operator: are the books right?
  {python.removesuffix("/python")}/buf curl --protocol grpc --http2-prior-knowledge -H "authorization: Bearer $(make -s token)" \\
    http://{internal}/parley.billing.v1.AuditService/AuditLedger

Ctrl-C stops everything.
"""
