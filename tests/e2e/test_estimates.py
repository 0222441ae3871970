"""
What a plan says a model takes, beside what the real llama.cpp is measured to take of host memory.

The kernel counts (smaps: pages of its own, and pages of the model file); what the server takes for
itself is what it takes with a model of one tiny layer and the same vocabulary.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gguf
import pytest

from gpuctl.adapters.model_headers import read
from gpuctl.sizing import LlamaRun, llama_cpp
from tests.e2e import made_models
from tests.rig import http
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.alone, pytest.mark.timeout(300)]

SMALL = Path(__file__).parents[2] / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
#: Tokens that are left for the answer.
SPARE = 8

MODELS = ("llama", *made_models.MAKERS)
#: Two contexts of each, far enough apart for their caches to be told from noise.
CONTEXTS = (1024, 3072)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a server holds in RAM, in bytes."""

    own: int  # pages of its own: cache, buffers, vocabulary
    file: int  # pages of the model file

    @property
    def total(self) -> int:
        return self.own + self.file


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give a file of each architecture; those that are made speak with the small one's words."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = gguf.GGUFReader(SMALL)
    paths = {"llama": SMALL}
    for name, make in {**made_models.MAKERS, "least": made_models.least}.items():
        paths[name] = folder / f"{name}.gguf"
        make(paths[name], tokenizer)
    return paths


@pytest.fixture(scope="module")
def held(models: dict[str, Path]) -> Callable[[str, int], Held]:
    """Give what a model holds at a context, without what the server takes for itself."""
    itself = measured(models["least"], 512).own
    asked = [(name, context) for name in MODELS for context in reversed(CONTEXTS)]
    # Two at once: each server has one thread.
    with ThreadPoolExecutor(2) as threads:
        seen = threads.map(lambda one: measured(models[one[0]], one[1]), asked)
        found = dict(zip(asked, seen, strict=True))
    return lambda name, context: Held(
        own=found[name, context].own - itself, file=found[name, context].file
    )


def measured(model: Path, context: int) -> Held:
    """Serve a model, fill its whole context, and count."""
    with served(model, context) as (process, port):
        tokens = [1 + index % 200 for index in range(context - SPARE)]
        asked = {"prompt": tokens, "n_predict": 2, "cache_prompt": False}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/completion", data=json.dumps(asked).encode()
        )
        with urllib.request.urlopen(request, timeout=240) as answer:
            told = json.load(answer)
        assert told["tokens_evaluated"] == context - SPARE
        return pages(process.pid, model)


@contextmanager
def served(model: Path, context: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = http.free_port()
    command = [sys.executable, "-m", "tests.e2e.measured_server", "-m", str(model)]
    # Several threads would wait for each other, spinning, wherever the cores are busy.
    flags = ["--port", str(port), "-c", str(context), "-np", "1", "-t", "1"]
    process = subprocess.Popen(
        [*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: _healthy(port), f"{model.name} to be served", 60)
        yield process, port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _healthy(port: int) -> bool:
    found = http.get(port, "/health")
    return found is not None and found[0] == 200


def pages(pid: int, model: Path) -> Held:
    """Return what a process holds, by the kernel's own count of its mappings."""
    own = file = 0
    mine = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mine = line.endswith(str(model))
        elif line.startswith("Anonymous:"):
            own += int(line.split()[1]) * 1024
        elif mine and line.startswith("Rss:"):
            file += int(line.split()[1]) * 1024
    return Held(own=own, file=file)


def estimated(model: Path, context: int) -> int:
    found = llama_cpp(read(model), LlamaRun(gpus=0, context=context))
    assert found is not None
    return found.total_bytes


@pytest.mark.parametrize("name", MODELS)
def test_a_longer_context_takes_what_was_estimated(
    models: dict[str, Path], held: Callable[[str, int], Held], name: str
) -> None:
    """Between two contexts lies the cache that was estimated, within 5 %."""
    short, long = CONTEXTS

    difference = held(name, long).own - held(name, short).own

    expected = estimated(models[name], long) - estimated(models[name], short)
    assert difference == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_what_was_estimated(
    models: dict[str, Path], held: Callable[[str, int], Held], name: str
) -> None:
    """Weights, cache and buffers together are what was estimated, within 15 %."""
    for context in CONTEXTS:
        assert held(name, context).total == pytest.approx(
            estimated(models[name], context), rel=0.15
        )
