"""
Half an hour of `make soak`: the P106 host as it ships, under the load that its profile promises.

Ten users ask 30 times a minute with prompts of 50 to 500 tokens and get 24; every 3 minutes a
replica is killed. What differs from the shipped profile is what a GPU or a registry would be needed
for: the models and the images, of which chat's is the real llama.cpp with one thread.
GPUCTL_SOAK_MINUTES is for a shorter try.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import tomlkit

from tests.e2e.chaos import wait_whole
from tests.e2e.engine_record import EngineRecord
from tests.e2e.host import GPUSIM, LLAMA, MODEL, MODELS
from tests.e2e.loadtest_record import quantiles, record
from tests.e2e.openai_load import Clients
from tests.e2e.served import WORD, Served, served
from tests.rig.dockerd import PrivateEngine
from tests.rig.images import rig_mounts

pytestmark = [pytest.mark.docker, pytest.mark.engine, pytest.mark.nvml, pytest.mark.soak]

SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "p106x8.toml"
MINUTES = float(os.environ.get("GPUCTL_SOAK_MINUTES", "30"))
KILL_SECONDS = 180.0
#: Ten users, each of whom asks three times a minute.
USERS, EVERY_SECONDS = 10, 20.0
FEWEST, MOST, TOKENS = 50, 500, 24
#: Sixteen loads, two at once and 5 s apart, on two shared cores.
UP_SECONDS = 240.0


def shipped(host: Served) -> Path:
    """Write the shipped profile with what the rig has for images, models and mounts."""
    document = cast(dict[str, Any], tomlkit.parse(SHIPPED.read_text()))
    mounts = [f"{mount.source}:{mount.target}:ro" for mount in rig_mounts()]
    for name, workload in document["workloads"].items():
        workload["image"] = LLAMA if name == "chat" else GPUSIM
        workload["model"], workload["mounts"] = MODEL, [f"{MODELS}:/models:ro", *mounts]
    # Eight servers share this machine's cores.
    document["workloads"]["chat"]["options"] = {"threads": 1}
    document["gateway"]["listen"] = f"127.0.0.1:{host.listen}"
    path = host.folder / "p106x8.toml"
    path.write_text(tomlkit.dumps(document))
    return path


class Prompts:
    """Requests with prompts of so many tokens; no two begin alike."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self.overhead = 0  # tokens of a prompt without words

    def next(self) -> dict[str, Any]:
        return self.of(self._random.randint(FEWEST, MOST))

    def of(self, tokens: int) -> dict[str, Any]:
        # The model's tokenizer makes a token of each digit, and of each of the words.
        content = f"{next(self._numbers):06d}" + WORD * (tokens - self.overhead)
        return {
            "model": "gpt-4",
            "messages": [{"role": "user", "content": content}],
            "max_tokens": TOKENS,
            "extra_body": {"ignore_eos": True, "cache_prompt": False},
        }

    def measure(self, host: Served) -> None:
        body = self.of(0)
        answer = host.ask({**body, **body.pop("extra_body")})
        self.overhead = answer.json["usage"]["prompt_tokens"]


class Processors:
    """The share of all cores that was idle, every 5 s and over all."""

    def __init__(self) -> None:
        self.idle: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Processors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        psutil.cpu_times_percent()
        while not self._over.wait(5.0):
            self.idle.append(psutil.cpu_times_percent().idle / 100)

    def line(self) -> str:
        ordered = sorted(self.idle)
        return (
            f"CPU headroom: {sum(ordered) / len(ordered):.0%} of all cores idle, in the busiest "
            f"twentieth of 5 s {ordered[len(ordered) // 20]:.0%}"
        )


@pytest.fixture
def engine_record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


def kill_again_and_again(host: Served, seed: int) -> list[str]:
    """Kill a random chat replica every 3 minutes, in the middle of each; return which."""
    dice, killed, began = random.Random(seed), [], time.monotonic()
    for number in itertools.count():
        due = began + KILL_SECONDS * (number + 0.5)
        if due >= began + MINUTES * 60:
            break
        time.sleep(max(0.0, due - time.monotonic()))
        name = f"chat-{dice.randrange(8)}"
        os.kill(host.pid_of(name), signal.SIGKILL)
        killed.append(name)
    time.sleep(max(0.0, began + MINUTES * 60 - time.monotonic()))
    return killed


def first_bytes(host: Served, since: float) -> list[float]:
    """Return how long the gateway waited for each answer's first byte, the queue with it."""
    told: list[Mapping[str, Any]] = [
        line for line in host.gateway_log() if line["event"] == "request" and line["at"] >= since
    ]
    return [dict(line["timeline"])["first_byte"] for line in told if line["end"] == "answered"]


def test_soak(
    engine: PrivateEngine, engine_record: EngineRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every request is answered, and nothing is started anew but what was killed."""
    seed = int(time.time())
    prompts = Prompts(seed)
    with served(engine, shipped, seconds=UP_SECONDS) as host:
        prompts.measure(host)
        began = time.time()
        url = f"http://127.0.0.1:{host.listen}/v1"
        with (
            Processors() as processors,
            Clients(url, [prompts.next] * USERS, every_seconds=EVERY_SECONDS) as clients,
        ):
            killed = kill_again_and_again(host, seed)
        wait_whole(host)
        outcomes = clients.outcomes
        failed = [outcome for outcome in outcomes if outcome.error]
        tokens = [outcome.prompt_tokens for outcome in outcomes]
        figures = [
            f"{len(outcomes)} requests in {MINUTES:g} minutes, {len(failed)} failed; "
            f"prompts of {min(tokens)} to {max(tokens)} tokens, answers of {TOKENS}",
            f"{len(killed)} replicas killed, each started once; nothing else was",
            quantiles("answers", (outcome.seconds for outcome in outcomes)),
            quantiles("to the first token", first_bytes(host, began)),
            processors.line(),
            f"seed {seed}",
        ]
        assert failed == [], figures
        assert (min(tokens) >= FEWEST, max(tokens) <= MOST) == (True, True), figures
        assert len(outcomes) >= 0.95 * MINUTES * 60 * USERS / EVERY_SECONDS
        events = host.events("failed")
        assert [(event["subject"], event["reason"]) for event in events] == [
            (name, "killed") for name in killed
        ]
        lives = engine_record.lives(began)
        for what in ("die", "start"):
            assert [name for name, how, _ in lives if how == what] == killed
    record(capsys, "soak", figures)
