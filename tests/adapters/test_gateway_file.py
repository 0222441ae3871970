"""gateway.json as the gateway writes it, and as it must not be believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpuctl.adapters.gateway_file import GatewayFile
from gpuctl.model import GatewayReading, GatewayReplica
from tests.fakes import FakeClock
from tests.make import AT

DOCUMENT = {
    "at": AT,
    "instance": "i-1",
    "seq": 42,
    "replicas": {
        "chat-0": {
            "in_flight": 2,
            "last_byte_boot_seconds": 812.5,
            "began_boot_seconds": 810,
            "state": "draining",
            "errors": 3,
        },
        "chat-1": {
            "in_flight": 0,
            "last_byte_boot_seconds": None,
            "began_boot_seconds": None,
        },
    },
}


def written(folder: Path, document: object, *, modified_at: float = AT) -> GatewayFile:
    """Return a reader of this document, at the clock's present."""
    path = folder / "gateway.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    os.utime(path, (modified_at, modified_at))
    return GatewayFile(path, FakeClock())


def test_a_fresh_file_is_read(tmp_path: Path) -> None:
    """Every number of it that we use; what else the gateway tells is passed over."""
    assert written(tmp_path, DOCUMENT).read() == GatewayReading(
        instance="i-1",
        seq=42,
        replicas={
            "chat-0": GatewayReplica(
                in_flight=2,
                last_byte_boot_seconds=812.5,
                began_boot_seconds=810.0,
                state="draining",
            ),
            "chat-1": GatewayReplica(in_flight=0, last_byte_boot_seconds=None),
        },
    )


def test_there_may_be_no_gateway(tmp_path: Path) -> None:
    """An absent file is no gateway, and no error."""
    assert GatewayFile(tmp_path / "gateway.json", FakeClock()).read() is None


@pytest.mark.parametrize(
    ("written_ago", "modified_ago", "fresh"),
    [
        pytest.param(5.0, 5.0, True, id="five seconds old"),
        pytest.param(5.1, 0.0, False, id="an old document in a new file"),
        pytest.param(0.0, 5.1, False, id="a file that was not written since"),
        pytest.param(-5.1, -5.1, False, id="from a future that a clock step took back"),
    ],
)
def test_an_old_file_is_as_none(
    tmp_path: Path, written_ago: float, modified_ago: float, fresh: bool
) -> None:
    """Both the document's own time and the file's must be within 5 s of now."""
    document = {**DOCUMENT, "at": AT - written_ago}
    reading = written(tmp_path, document, modified_at=AT - modified_ago).read()
    assert (reading is not None) is fresh


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("", id="empty"),
        pytest.param('{"at": 1', id="half a file"),
        pytest.param("[]", id="not an object"),
        pytest.param({"seq": 1}, id="without its time"),
        pytest.param({**DOCUMENT, "at": "noon"}, id="a time in words"),
        pytest.param({**DOCUMENT, "seq": None}, id="no sequence"),
        pytest.param({**DOCUMENT, "seq": float("inf")}, id="a sequence without bounds"),
        pytest.param({**DOCUMENT, "at": float("nan")}, id="a time that is no number"),
        pytest.param("[" * 200_000, id="nested without end"),
        pytest.param({**DOCUMENT, "replicas": ["chat-0"]}, id="replicas without names"),
        pytest.param(
            {**DOCUMENT, "replicas": {"chat-0": {"began_boot_seconds": float("nan")}}},
            id="a request since no time",
        ),
        pytest.param({**DOCUMENT, "replicas": {"chat-0": 2}}, id="a replica that is a number"),
    ],
)
def test_a_file_of_another_kind_is_as_none(tmp_path: Path, document: object) -> None:
    """What cannot be read for what it should be is as good as absent."""
    assert written(tmp_path, document).read() is None


def test_bytes_that_are_no_text_are_as_none(tmp_path: Path) -> None:
    """A file that is not UTF-8 is of another kind as well."""
    reader = written(tmp_path, DOCUMENT)
    (tmp_path / "gateway.json").write_bytes(b'{"instance": "\xff"}')
    os.utime(tmp_path / "gateway.json", (AT, AT))
    assert reader.read() is None


def test_a_pipe_in_its_place_is_as_none(tmp_path: Path) -> None:
    """The gateway is another user's program: what it puts there must not make a reader wait."""
    os.mkfifo(tmp_path / "gateway.json")
    assert GatewayFile(tmp_path / "gateway.json", FakeClock()).read() is None
