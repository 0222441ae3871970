"""schemathesis on the gateway's own OpenAPI document: what it serves is what it says it serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuctl.gateway import keyring
from gpuctl.gateway.keyring import Key, digest
from tests.rig import api_hooks
from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.stub_engine import StubEngine

pytestmark = [pytest.mark.program, pytest.mark.timeout(120)]

ADMIN = Key(id="key-00000001", name="ops", sha256=digest("sk-1"), admin=True)
#: Of each operation, beside what is always tried; 15 s on two cores that have nothing else to do.
EXAMPLES = 6


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Right and wrong requests to every operation, under every check that it knows."""
    hooks = Path(str(api_hooks.__file__))
    keys = json.loads(keyring.write((ADMIN,)))
    with StubEngine(api_hooks.MODEL) as engine:
        upstream = Upstream(name="chat-0", address=engine.address, slots=8)
        with GatewayProcess([upstream], folder=tmp_path, keys=keys) as gateway:
            found = subprocess.run(
                [
                    *(str(Path(sys.executable).with_name("schemathesis")), "run"),
                    *(f"{gateway.url}/openapi.json", "--header", "Authorization: Bearer sk-1"),
                    *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "7"),
                    "--no-shrink",
                ],
                cwd=tmp_path,
                env={**os.environ, "SCHEMATHESIS_HOOKS": str(hooks), "NO_COLOR": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert found.returncode == 0, found.stdout + found.stderr + gateway.log[-3000:]
        answered = {seen.path for seen in engine.ended("answered")}
    assert {"/v1/chat/completions", "/v1/embeddings", "/v1/audio/transcriptions"} <= answered
