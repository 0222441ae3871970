"""Fixtures of the rig, and the rule for what this machine cannot run: skip it and say why."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.rig import dockerd, images
from tests.rig.dockerd import PrivateEngine

# Half of hypothesis' own number each time, as every run has others; ten times that in `make soak`.
hypothesis.settings.register_profile("often", max_examples=50)
hypothesis.settings.register_profile("soak", max_examples=500)
hypothesis.settings.load_profile("soak" if os.environ.get("GPUCTL_SOAK") else "often")


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C reach the programs that are tested: a shell's background job ignores SIGINT."""
    config.addinivalue_line("markers", "real: has one of REAL; never written, and added to each")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect no garbage before here: it would look at thousands of new tests again and again."""
    gc.enable()


def _systemd_missing() -> str:
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    return dockerd.missing()


def _engine_missing() -> str:
    return "" if importlib.util.find_spec("xllamacpp") else "xllamacpp is not installed"


def _compiler_missing() -> str:
    return "" if shutil.which("cc") else "cc is not installed"


def _card_missing() -> str:
    if not Path("/dev/nvidiactl").exists():
        return "there is no NVIDIA GPU, or its driver is not loaded"
    return "" if shutil.which("nvidia-smi") else "nvidia-smi is not installed"


def _nothing_missing() -> str:
    return ""


#: Marker of tests that `tests/run unit` leaves out → why they cannot run here, "" when they can.
REAL: dict[str, Callable[[], str]] = {
    "docker": dockerd.missing,
    "systemd": _systemd_missing,
    "engine": _engine_missing,
    "program": _nothing_missing,
    "soak": _nothing_missing,
}


#: The same of all markers that need something.
NEEDS = REAL | {"nvml": _compiler_missing, "gpu": _card_missing}


#: Marker → the variable that the make target sets whose tests these are.
LEFT_TO = {
    "soak": "GPUCTL_SOAK",
    "gpu": "GPUCTL_GPU",
    "vllm": "GPUCTL_ENGINES",
    "llama_cpp_python": "GPUCTL_ENGINES",
}


@functools.cache
def spells_real(path: Path) -> bool:
    """Return whether a file of tests has one of these markers in its text."""
    return bool(re.search(rf"pytest\.mark\.({'|'.join(REAL)})\b", path.read_text()))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave files without real tests unread where only these are run: reading all takes 10 s."""
    if not os.environ.get("GPUCTL_ONLY_REAL") or not collection_path.match("test_*.py"):
        return None
    return True if not spells_real(collection_path) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """
    Mark it as real, for `tests/run`, if one of its markers is.

    One that came from elsewhere is refused: where only real tests are run it would be lost.
    """
    if not any(item.get_closest_marker(name) for name in REAL):
        return
    if not spells_real(item.path):
        raise pytest.UsageError(f"{item.nodeid}: spell its marker in {item.path.name} itself")
    item.add_marker("real")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests of gigabytes, of half an hour and of a card to the targets named for them."""
    left: list[pytest.Item] = []
    for marker, variable in LEFT_TO.items():
        if not os.environ.get(variable):
            left += [item for item in items if item.get_closest_marker(marker)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose marker names what is not here."""
    for marker, missing in NEEDS.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            pytest.skip(reason)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With CI set, a skipped test has failed: a machine that tests must be able to."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped with CI set: {report.longrepr}"


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of a test run without coverage: it looks at what they import or hold."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session")
def engine() -> Iterator[PrivateEngine]:
    """A private Docker Engine with the rig's image; tests that stop it make one of their own."""
    with PrivateEngine() as started:
        client = started.client()
        images.build(client)
        client.close()
        yield started
