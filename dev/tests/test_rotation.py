import os
import subprocess
import sys

from parley_dev.config import Mesh
from parley_dev.secrets import ensure


def rotate(home):
    command = [sys.executable, "-m", "parley_dev", "rotate-keys"]
    return subprocess.run(
        command, env=os.environ | {"PARLEY_HOME": str(home)}, capture_output=True, text=True, check=False
    )


def test_a_key_is_added_once_and_said_to_be(home):
    mesh = Mesh(home=home)
    ensure(mesh)
    first = rotate(home)
    assert (first.returncode, first.stderr) == (0, "")
    added, old = sorted(file.name for file in mesh.signing_keys.iterdir())
    assert old == "signing-key.pem"
    assert first.stdout.startswith(f"{added} is published at once and signs from ")
    again = rotate(home)
    assert again.returncode == 1
    assert f"{added} is still to come" in again.stderr


def test_the_key_of_a_home_from_before_is_kept(home):
    mesh = Mesh(home=home)
    mesh.secrets.mkdir(parents=True)
    (mesh.secrets / "signing-key.pem").write_text("the key")
    ensure(mesh)
    ensure(mesh)
    assert [file.read_text() for file in mesh.signing_keys.iterdir()] == ["the key"]
