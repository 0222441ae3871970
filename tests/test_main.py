"""The program as a process: the fast path of `status`, and what it must never import."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gpuctl import fast_status
from gpuctl.adapters.lock import lock_directory

pytestmark = pytest.mark.program

DOCUMENT = Path(__file__).parent / "views" / "status.json"
HEAVY = {
    "typer", "click", "pydantic", "rich", "httpx", "asyncio", "docker", "dataclasses", "typing",
    "logging", "sqlite3", "subprocess", "inspect",
}  # fmt: skip


def publish(directory: Path, **changes: Any) -> None:
    """Write a status.json as a daemon of this process would."""
    document = json.loads(DOCUMENT.read_text()) | changes
    document["daemon"]["pid"] = os.getpid()
    (directory / "status.json").write_text(json.dumps(document))


def gpuctl(directory: Path, *arguments: str, python: tuple[str, ...] = ()) -> tuple[int, str, str]:
    environment = {
        **os.environ,
        "GPUCTL_CONFIG_DIR": str(directory),
        "GPUCTL_STATE_DIR": str(directory),
        "GPUCTL_RUNTIME_DIR": str(directory),
        "NO_COLOR": "1",
    }
    command = [sys.executable, *python, "-m", "gpuctl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


def test_status_prints_one_line_a_replica(tmp_path: Path) -> None:
    """The plain table has a header, the headings, each replica and each condition."""
    publish(tmp_path)

    code, out, err = gpuctl(tmp_path, "status")

    lines = out.splitlines()
    assert (code, err, len(lines)) == (3, "", 9)
    assert [line.split()[0] for line in lines[1:6]] == [
        "REPLICA",
        "chat-0",
        "chat-1",
        "chat-2",
        "embed-0",
    ]
    assert lines[6].startswith("failed: gpu 2: gpu_lost for ")


def test_status_tells_of_the_gateway(tmp_path: Path) -> None:
    """One line more where the profile has one; its file is another user's, and may be anything."""
    place = tmp_path / "run-gateway"
    (tmp_path / "run").mkdir()
    place.mkdir()
    publish(tmp_path / "run", gateway={"listen": "127.0.0.1:4000"})
    told = {"at": time.time(), "listen": "127.0.0.1:4000", "in_flight": 2, "queued": 0}
    lines = []
    for text in (json.dumps(told), "[]", "\udcff", "[" * 100_000):
        (place / "gateway.json").write_text(text, errors="surrogateescape")
        _, out, err = gpuctl(tmp_path / "run", "status")
        lines.append((out.splitlines()[1], err))
    assert lines == [
        ("gateway 127.0.0.1:4000 · 2 in flight, 0 queued", ""),
        *[("gateway 127.0.0.1:4000 · NOT RUNNING", "")] * 3,
    ]


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json")])
def test_a_gateway_that_does_not_listen_is_in_the_exit_code(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """3 as for a replica that does not run, though all of them do."""
    place = tmp_path / "run-gateway"
    (tmp_path / "run").mkdir()
    place.mkdir()
    held = lock_directory(tmp_path / "run")
    publish(tmp_path / "run", at=time.time(), replicas=[], gateway={"listen": "127.0.0.1:4000"})
    missing = gpuctl(tmp_path / "run", *arguments)[0]
    told = {"at": time.time(), "listen": "127.0.0.1:4000", "in_flight": 0, "queued": 0}
    (place / "gateway.json").write_text(json.dumps(told))
    there = gpuctl(tmp_path / "run", *arguments)[0]
    os.close(held)
    assert (missing, there) == (3, 0)


def test_a_status_without_a_gateway_looks_for_none(tmp_path: Path) -> None:
    """Its file is not even opened: a pipe in its place would be."""
    assert fast_status.gateway_line(document(gateway=None), f"{tmp_path}/\0", 0.0) == ""


def test_status_as_json_is_the_document(tmp_path: Path) -> None:
    """Scripts get status.json as it is."""
    publish(tmp_path)

    _, out, _ = gpuctl(tmp_path, "status", "--json")

    assert json.loads(out) == json.loads((tmp_path / "status.json").read_text())


def test_status_without_a_daemon_says_what_to_do(tmp_path: Path) -> None:
    """Nothing supervised is exit code 3 and a hint, on stderr."""
    code, out, err = gpuctl(tmp_path, "status")

    assert (code, out) == (3, "")
    assert err.startswith("error: nothing is supervised here")
    assert "hint: start with `gpuctl up`" in err


def test_a_torn_status_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    """A status.json that is no JSON is named, with a hint."""
    (tmp_path / "status.json").write_text("{")

    code, out, err = gpuctl(tmp_path, "status")

    assert (code, out) == (1, "")
    assert err.startswith(f"error: {tmp_path}/status.json: ")
    assert "Traceback" not in err


def test_a_simulated_host_says_so(tmp_path: Path) -> None:
    """Simulated is said on stderr and in the header."""
    publish(tmp_path, simulated=True)

    _, out, err = gpuctl(tmp_path, "--simulate", "p106x8", "status")

    assert out.startswith("SIMULATED · p106x8")
    assert "simulated host p106x8" in err


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("gpus",), ("events",)])
@pytest.mark.parametrize(
    ("host", "message"),
    [
        pytest.param("p106x9", "error: there is no host 'p106x9'\nhint: did you mean", id="a name"),
        pytest.param("nohost", "hint: the shipped hosts are a100x8, a6000x2,", id="no such name"),
        pytest.param("./no.json", "error: no.json: No such file or directory\nhint: ", id="a file"),
    ],
)
def test_a_simulated_host_that_is_none(
    tmp_path: Path, arguments: tuple[str, ...], host: str, message: str
) -> None:
    """It is refused as any unknown value is, and nothing is said of it as if it were there."""
    code, out, err = gpuctl(tmp_path, "--simulate", host, *arguments)

    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """`gpuctl status | true` prints no complaint."""
    publish(tmp_path)
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = {**os.environ, "GPUCTL_RUNTIME_DIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-m", "gpuctl", "status"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    os.close(write_end)

    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("more", [(), ("--simulate", "p106x8")], ids=["here", "simulated"])
def test_status_imports_nothing_heavy(tmp_path: Path, more: tuple[str, ...]) -> None:
    """A plain `status` starts as fast as Python does: none of the large modules is imported."""
    publish(tmp_path)

    _, out, err = gpuctl(tmp_path, *more, "status", python=("-X", "importtime"))

    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in err.splitlines()}
    assert out
    assert "json" in imported
    assert imported & HEAVY == set()


def document(**changes: Any) -> Any:
    return json.loads(DOCUMENT.read_text()) | changes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["status"], (False, None), id="plain"),
        pytest.param(["status", "--json"], (True, None), id="json"),
        pytest.param(["--simulate", "x", "status"], (False, "x"), id="simulate before"),
        pytest.param(["status", "--simulate=x", "--json"], (True, "x"), id="simulate after"),
        pytest.param(["status", "--help"], None, id="help"),
        pytest.param(["status", "--simulate"], None, id="host missing"),
        pytest.param(["up"], None, id="another command"),
        pytest.param(["--json", "status"], None, id="json before the command"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_only_a_plain_status_goes_the_fast_path(
    arguments: list[str], expected: tuple[bool, str | None] | None
) -> None:
    """Whatever the fast path does not know is left to the full command line."""
    assert fast_status.options(arguments) == expected


@pytest.mark.parametrize(
    ("changes", "alive", "seconds", "expected"),
    [
        pytest.param({}, True, 1, 3, id="one is in back-off"),
        pytest.param({"replicas": []}, True, 1, 0, id="all well"),
        pytest.param({"replicas": []}, False, 1, 3, id="daemon dead"),
        pytest.param({"replicas": []}, True, 60, 3, id="daemon silent"),
    ],
)
def test_exit_code(changes: dict[str, Any], alive: bool, seconds: float, expected: int) -> None:
    """0 only when all is ready and the daemon is there to keep it so."""
    status = document(**changes)

    now = status["at"] + seconds
    assert fast_status.exit_code(status, alive=alive, now=now, gateway={}) == expected


def test_a_process_without_a_lock_is_not_the_daemon(tmp_path: Path) -> None:
    """The daemon's number taken over by another program does not look alive."""
    status = document()
    status["daemon"]["pid"] = os.getpid()
    without = fast_status.alive(status)

    import fcntl

    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with_lock = fast_status.alive(status)

    assert (without, with_lock) == (False, True)


def test_a_process_that_is_gone_is_not_alive() -> None:
    """A number no process has is a dead daemon."""
    status = document()
    status["daemon"]["pid"] = 2**22 + 1  # above the largest pid_max

    assert not fast_status.alive(status)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param('{"schema": 1, "at": 17', id="cut off"),
        pytest.param("", id="empty"),
        pytest.param("[]", id="no table"),
        pytest.param('{"schema": 1}', id="keys missing"),
        pytest.param('{"schema": 7}', id="another schema"),
    ],
)
def test_a_damaged_status_is_named(tmp_path: Path, content: str) -> None:
    """What is no Status is words and exit code 1."""
    (tmp_path / "status.json").write_text(content)

    code, out, err = gpuctl(tmp_path, "status")

    assert (code, out) == (1, "")
    assert err.startswith(f"error: {tmp_path}/status.json: damaged: ")
    assert err.endswith("hint: `gpuctl up` has the daemon write it anew\n")


@pytest.mark.parametrize(
    ("before", "after", "code", "word"),
    [
        pytest.param("", ">/dev/full", 1, "error: the output: No space left", id="full"),
        pytest.param("", ">&-", 3, "", id="closed"),
        pytest.param("PYTHONIOENCODING=ascii", ">/dev/null", 3, "", id="a poor locale"),
    ],
)
def test_an_output_that_takes_nothing(
    tmp_path: Path, before: str, after: str, code: int, word: str
) -> None:
    """Neither a full disk, a closed output nor a locale is a traceback."""
    publish(tmp_path)

    done = subprocess.run(
        f"{before} GPUCTL_RUNTIME_DIR={tmp_path} {sys.executable} -m gpuctl status {after}",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == code
    assert done.stderr.startswith(word)
    assert "Traceback" not in done.stderr
