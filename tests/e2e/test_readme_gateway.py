"""What README shows of the gateway, as it stands there: each command, and the openai client."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.stub_engine import StubEngine

pytestmark = pytest.mark.program

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.partition("\n## The gateway\n")[2].partition("\n## ")[0]
CURLS = re.findall(r"^curl .*$", SECTION, re.MULTILINE)
ADDRESS = "127.0.0.1:4000"


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    """One whose model has the alias of the shipped profiles."""
    with StubEngine() as engine:
        upstream = Upstream(name="chat-0", address=engine.address, aliases=("gpt-4",))
        with GatewayProcess([upstream]) as running:
            yield running


def run(gateway: GatewayProcess, *command: str) -> str:
    """Run a command of README on the gateway of the test; return what it printed."""
    here = [word.replace(ADDRESS, f"127.0.0.1:{gateway.port}") for word in command]
    done = subprocess.run(here, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("line", "printed"),
    [
        pytest.param(line, printed, id=line.split()[-1] if "-d" not in line else printed)
        for line, printed in zip(
            CURLS,
            ('"id":"gpt-4"', '"content": "w0 w1', "data: [DONE]", '"status":"ok"'),
            strict=True,
        )
    ],
)
def test_curl(gateway: GatewayProcess, line: str, printed: str) -> None:
    """Each answers."""
    assert printed in run(gateway, *shlex.split(line), "--fail", "--silent")


def test_python(gateway: GatewayProcess) -> None:
    """The program prints the answer."""
    (program,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert run(gateway, sys.executable, "-c", program) == "w0 w1 w2 w3 \n"
