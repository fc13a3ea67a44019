"""The README's tour, run as it stands."""

import asyncio
import re
import uuid

from parley_dev.config import ROOT

BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_the_tour_is_there():
    assert len(BLOCKS) >= 9


async def test_the_tour_works(mesh, tmp_path):
    made = mesh.mesh
    text = "".join(BLOCKS).replace("ada@example.com", f"{uuid.uuid4().hex}@example.com")
    text = text.replace("http://127.0.0.1:8080", made.edge_url).replace("http://127.0.0.1:9090", made.internal_url)
    text = text.replace(".parley/outbox", str(made.outbox))
    text = text.replace(".venv/bin/", f"{ROOT}/.venv/bin/").replace("make -s token", f"make -s -C {ROOT} token")
    script = f"""
set -eu -o pipefail
curl() {{ command curl --noproxy '*' --max-time 60 "$@"; }}
{text}
test "$(head -c 4 picture.png | tail -c 3)" = PNG
"""
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PARLEY_HOME": str(made.home),
        "PARLEY_BASE_PORT": str(made.base_port),
    }
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script), cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    shown = (await process.communicate())[0].decode()
    assert process.returncode == 0, shown
    for part in (
        '"expiresIn":900',
        '"object": "list"',
        '"type":"finish"',
        "[DONE]",
        '"SUCCEEDED"',
        '"availableMicros"',
    ):
        assert part in shown, shown
    refused = re.findall(r'"code":"([A-Z_]+)"', shown)
    assert refused == ["INVALID_ARGUMENT"], shown  # the one that the tour makes on purpose
    assert "parley.chat.v1.MessageService" in shown
    assert re.search(r'"accounts": "\d+"', shown), shown
