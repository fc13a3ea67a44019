"""With small real processes: what dies is restarted and said so, what stops stops in order, nothing is left."""

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from parley_dev import health
from parley_dev.config import CannotRunError
from parley_dev.logs import Log
from parley_dev.supervisor import Spec, StartFailedError, Supervised, run_to_end

# Answers GET with 200 on a port; its child sleeps, as vLLM's engine process would.
SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(child.pid).encode())
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ok).serve_forever()
"""
DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(600)
"""


@pytest.fixture
def said():
    return []


@pytest.fixture
async def server(mesh, home, said):
    async def ready():
        return await health.answers_ok(f"127.0.0.1:{mesh.edge_port}", "/")

    spec = Spec("billing", [sys.executable, "-c", SERVER, str(mesh.edge_port)], home / "billing.log", ready=ready)
    supervised = Supervised(spec, lambda text, _style: said.append(text))
    yield supervised
    await supervised.stop()


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def gone(process: psutil.Process) -> bool:
    """Dead, whether or not its parent has noticed."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def child_of(supervised: Supervised) -> psutil.Process:
    return psutil.Process(supervised.pid).children()[0]


async def test_a_killed_process_is_restarted_and_said_so(server, said):
    await server.start()
    first = server.pid
    child = child_of(server)
    os.kill(first, signal.SIGKILL)
    await until(lambda: server.restarts == 1)
    await server.until_ready()
    assert server.pid != first
    await until(lambda: gone(child))
    assert said[0].startswith("billing SERVING after ")
    assert said[1] == "billing was killed (signal 9, SIGKILL); restarting"
    assert said[2].startswith("billing restarted, SERVING again after ")


async def test_stop_leaves_neither_process_nor_child(server):
    await server.start()
    process, child = psutil.Process(server.pid), child_of(server)
    await server.stop()
    assert gone(process)
    await until(lambda: gone(child))
    assert server.restarts == 0
    assert server.pid is None


async def test_a_process_that_ends_before_it_is_ready_fails_the_start_with_its_own_words(home, said):
    spec = Spec("auth", [sys.executable, "-c", "raise SystemExit('no signing key')"], home / "auth.log", ready=never)
    with pytest.raises(StartFailedError, match=r"(?s)auth ended by itself \(exit status 1\).*no signing key"):
        await Supervised(spec, lambda *_: None).start()


async def test_a_process_killed_before_it_is_ready_is_started_again(home, said):
    marker = home / "was-here"
    program = f"import os, pathlib, time\nm = pathlib.Path({str(marker)!r})\nif not m.exists():\n m.touch(); os.kill(os.getpid(), 9)\ntime.sleep(600)"

    async def ready():
        return marker.exists() and supervised.restarts == 1

    spec = Spec("chat", [sys.executable, "-c", program], home / "chat.log", ready=ready)
    supervised = Supervised(spec, lambda text, _style: said.append(text))
    await supervised.start()
    await supervised.stop()
    assert said[0] == "chat was killed (signal 9, SIGKILL); restarting"


async def test_who_never_gets_ready_is_named_after_the_time_limit(home):
    spec = Spec(
        "chat", [sys.executable, "-c", "import time; time.sleep(600)"], home / "l", ready=never, start_seconds=0.3
    )
    supervised = Supervised(spec, lambda *_: None)
    with pytest.raises(StartFailedError, match="chat was not SERVING within"):
        await supervised.start()
    await supervised.stop()


async def test_who_ignores_the_stop_signal_is_killed_after_the_grace_period(home, said):
    marker = home / "deaf"

    async def ready():
        return marker.exists()

    command = [sys.executable, "-c", DEAF, str(marker)]
    supervised = Supervised(
        Spec("envoy", command, home / "l", ready=ready, stop_seconds=0.2), lambda text, _style: said.append(text)
    )
    await supervised.start()
    process = psutil.Process(supervised.pid)
    await supervised.stop()
    assert gone(process)
    assert "envoy did not stop within 0 s; killed" in said


async def test_a_failing_step_tells_the_end_of_its_log(home):
    with pytest.raises(CannotRunError, match=r"(?s)models ended by itself \(exit status 3\).*disk is full"):
        await run_to_end(
            Spec("models", [sys.executable, "-c", "print('disk is full'); raise SystemExit(3)"], home / "models.log")
        )


async def test_nothing_outlives_a_kill_of_the_supervisor(mesh, home):
    program = textwrap.dedent(f"""
        import asyncio, sys
        from parley_dev.supervisor import Spec, Supervised
        async def ready():
            return True
        async def main():
            spec = Spec("x", [sys.executable, "-c", {SERVER!r}, "{mesh.edge_port}"], __import__("pathlib").Path({str(home / "x.log")!r}), ready=ready)
            supervised = Supervised(spec, lambda *_: None)
            await supervised.start()
            print(supervised.pid, flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """)
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    process = psutil.Process(int(await supervisor.stdout.readline()))
    supervisor.kill()
    await supervisor.wait()
    await until(lambda: gone(process))


async def never():
    return False


def test_the_launcher_is_importable_without_site_packages():
    # child.py runs by python -I -S: an import of ours or of a package would break every start.
    source = (Path(__file__).parents[1] / "src/parley_dev/child.py").read_text()
    assert "parley" not in source.split('"""', 2)[2]


def test_the_last_lines_are_those_of_the_present_process(tmp_path):
    log = Log(tmp_path / "log")
    with log.open() as file:
        file.write(b"from before, without an end of line")
    with log.open() as file:
        file.write(b"now\n")
    assert log.tail() == ["now"]
    assert log.doing() == "now"
