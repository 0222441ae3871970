"""Whatever is wrong with a profile or a command line is words and an exit code, never more."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuctl.cli.errors import tell, tell_refusal
from gpuctl.errors import DaemonDown, GpuctlError, PlanRefused, ProfileError

GOOD = """\
schema = 1
[host]
name = "h"
runtime = "process"
[workloads.chat]
engine = "llama.cpp"
image = "i"
model = "/m.gguf"
gpus = "none"
port = 8081
"""

MALFORMED = {
    "empty": b"",
    "blank": b"  \n\n",
    "binary": bytes(range(256)),
    "not toml": b"schema == 1\n",
    "nul": GOOD.encode() + b"\x00",
    "no schema": GOOD.replace("schema = 1\n", "").encode(),
    "schema of tomorrow": GOOD.replace("schema = 1", "schema = 99").encode(),
    "no host": b'schema = 1\n[workloads.chat]\nengine = "llama.cpp"\nport = 1\n',
    "wrong type": GOOD.replace("port = 8081", 'port = "many"').encode(),
    "unknown key": GOOD.replace("port = 8081", "prot = 8081").encode(),
    "unknown section": GOOD.encode() + b"[watchdgo]\ninterval = 5\n",
    "unknown engine": GOOD.replace("llama.cpp", "lama.cpp").encode(),
    "negative memory": GOOD.encode() + b'memory = "-1g"\n',
    "bad unit": GOOD.encode() + b'memory = "5 parsecs"\n',
    "bad time": GOOD.encode() + b'[watchdog]\ninterval = "soon"\n',
    "missing model": GOOD.replace('model = "/m.gguf"\n', "").encode(),
    "duplicate port": GOOD.encode()
    + b'[workloads.b]\nengine = "llama.cpp"\nmodel = "/m"\ngpus = "none"\nport = 8081\n',
    "port out of range": GOOD.replace("8081", "99999").encode(),
    "gpu 9 of none": GOOD.replace('gpus = "none"', "gpus = [9]").encode(),
    "overlapping groups": GOOD.replace('gpus = "none"', "gpus = [[0, 1], [1, 2]]").encode(),
    "a GPU twice": GOOD.replace('gpus = "none"', "gpus = [0, 0]").encode(),
    "a list for a table": b"schema = 1\nhost = [1]\nworkloads = 3\n",
    "a name with control characters": GOOD.replace('"h"', '"a\\u0000\\u001b[2Jb"').encode(),
    "a huge number": GOOD.replace("8081", "9" * 5000).encode(),
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_profile_is_named_and_refused(
    inside: Callable[..., Any], tmp_path: Path, content: bytes
) -> None:
    """Each has at least one `error:` that names the file, and exit code 2."""
    path = tmp_path / "broken.toml"
    path.write_bytes(content)

    done = inside("check", str(path))

    assert (done.code, done.out) == (2, "")
    assert f"error: {path}" in done.err
    assert not {"\0", "\x1b"} & set(done.err)


@pytest.mark.parametrize("name", ["nowhere.toml", "."], ids=["missing", "a directory"])
def test_a_profile_that_cannot_be_read_is_refused(
    inside: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    """A file that is not there, or is no file, is named with a hint."""
    done = inside("check", str(tmp_path / name))

    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "\nhint: " in done.err


@pytest.mark.program
@pytest.mark.parametrize("command", ["check", "plan", "up"])
def test_a_profile_that_is_a_pipe_is_refused(
    gpuctl: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    """A pipe that nobody writes to keeps no command waiting."""
    os.mkfifo(tmp_path / "pipe.toml")

    done = gpuctl("--simulate", "cpu", command, str(tmp_path / "pipe.toml"))

    assert done.code == 2
    assert f"error: {tmp_path}/pipe.toml: is a pipe or a device, no file\n" in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param(["statsu"], "status", id="a slip of the finger"),
        pytest.param(["up", "--no-such"], "--no-such", id="unknown option"),
        pytest.param(["stop"], "SUBJECT", id="missing argument"),
        pytest.param(["report", "--format", "pdf"], "'pdf' is not one of text", id="a value"),
    ],
)
def test_a_wrong_command_line_is_explained(
    inside: Callable[..., Any], arguments: list[str], word: str
) -> None:
    """Usage errors are exit code 2 and name what is wrong."""
    done = inside(*arguments)

    assert done.code == 2
    assert word in done.err
    assert "Value error" not in done.err


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        pytest.param(
            GpuctlError("it broke", "mend it"), 1, "error: it broke\nhint: mend it\n", id="one"
        ),
        pytest.param(DaemonDown("nothing runs"), 3, "error: nothing runs\n", id="without a hint"),
        pytest.param(
            ProfileError((("p:1: a", "do a"), ("p:2: b", ""))),
            2,
            "error: p:1: a\nhint: do a\nerror: p:2: b\n",
            id="every mistake",
        ),
        pytest.param(
            GpuctlError("a\x1b[2J", "do \x9b2J"), 1,
            "error: a\\x1b[2J\nhint: do \\x9b2J\n", id="control characters",
        ),
        pytest.param(
            PlanRefused("p: a\np: b", "do a\ndo b"),
            2,
            "error: p: a\nerror: p: b\nhint: do a\nhint: do b\n",
            id="every line of a plan",
        ),
    ],
)  # fmt: skip
def test_tell(
    capsys: pytest.CaptureFixture[str], error: GpuctlError, code: int, expected: str
) -> None:
    """Errors go to stderr, each with its hint on a line of its own."""
    assert tell(error) == code
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize(
    ("number", "path", "expected"),
    [
        pytest.param(
            errno.EROFS, "/srv/state",
            "error: /srv/state: Read-only file system\nhint: use sudo, or name places of your own: "
            "GPUCTL_STATE_DIR and GPUCTL_RUNTIME_DIR\n",
            id="a disk that is read-only",
        ),
        pytest.param(
            errno.ENOSPC, "/srv/state",
            "error: /srv/state: No space left on device\nhint: make room on its disk\n",
            id="a full disk",
        ),
        pytest.param(
            errno.ENOSPC, None,
            "error: the output: No space left on device\nhint: make room on its disk\n",
            id="an output that is full",
        ),
        pytest.param(
            errno.ENOTDIR, "/srv/file/state",
            "error: /srv/file/state: Not a directory\n", id="a file in the way",
        ),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_words(
    capsys: pytest.CaptureFixture[str], number: int, path: str | None, expected: str
) -> None:
    """A disk or a directory that says no is no bug: it is named, with what to do."""
    assert tell_refusal(OSError(number, os.strerror(number), path)) == 1
    assert capsys.readouterr() == ("", expected)


def test_a_refusal_that_names_nothing_is_unexpected(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the system without a file, as a socket's, is not explained away."""
    assert tell_refusal(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None
    assert capsys.readouterr() == ("", "")


def test_a_directory_that_cannot_be_made(
    inside: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` names the directory and does not call it a bug."""
    (place / "file").write_text("")
    monkeypatch.setenv("GPUCTL_RUNTIME_DIR", str(place / "file" / "run"))

    done = inside("--simulate", "cpu", "up", "cpu", "--detach")

    assert done.code == 1
    assert f"error: {place}/file/run: Not a directory\n" in done.err


@pytest.mark.program
@pytest.mark.parametrize(
    ("redirection", "code", "word"),
    [
        pytest.param(">/dev/full", 1, "error: the output: No space left on device", id="full"),
        pytest.param(">&-", 0, "", id="closed"),
        pytest.param("2>&-", 0, "", id="no stderr"),
    ],
)
def test_an_output_that_cannot_be_written(
    place: Path, redirection: str, code: int, word: str
) -> None:
    """A full disk under the output is an error; who closes a stream wants nothing of it."""
    done = subprocess.run(
        f"{sys.executable} -m gpuctl profiles show cpu {redirection}",
        shell=True, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == code
    assert word in done.stderr
    assert "bug" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.program
def test_a_locale_without_a_character_gets_another(
    gpuctl: Callable[..., Any], publish: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that cannot show a dot between two words still gets the words."""
    publish()
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    done = gpuctl("report")

    assert done.code == 3
    assert " ? DAEMON DEAD" in done.out
    assert done.err == ""
