"""A transfer that is interrupted: what is asked for again, and what is begun anew."""

from __future__ import annotations

import httpx
import pytest

from gpuctl.adapters.models.partial import incomplete
from gpuctl.adapters.models.transfer import Transfer
from gpuctl.errors import GpuctlError
from tests.adapters.transfer_bench import CONTENT, CUT, SHA256, Bench, bench, hub
from tests.rig.hub import Fault

__all__ = ["bench", "hub"]


def test_a_connection_that_is_cut_is_resumed(bench: Bench) -> None:
    """The rest is asked for, of the same version, and what came is not asked for again."""
    bench.hub.faults["m.gguf"] = [Fault(cut_after=CUT)]
    bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    first, second = bench.hub.downloads("m.gguf")
    assert "range" not in first
    assert (second["range"], second["if-range"]) == (f"bytes={CUT}-", f'"{SHA256}"')
    assert bench.slept == [1.0]
    assert (bench.place / "m.gguf").read_bytes() == CONTENT


def test_an_interruption_is_resumed_by_the_next_process(bench: Bench) -> None:
    """What came before is kept under the name of what is not whole, and summed from the disk."""
    wanted = bench.wanted(size_bytes=len(CONTENT), sha256=SHA256)

    def interrupt(done: int, _: int | None) -> None:
        if done >= CUT:
            raise KeyboardInterrupt

    with httpx.Client() as client:
        transfer = Transfer(client=client, say=bench.said.append)
        with pytest.raises(KeyboardInterrupt):
            transfer.fetch(wanted, interrupt)
    kept = incomplete(wanted.target).stat().st_size
    assert bench.left() == ["m.gguf.incomplete", "m.gguf.incomplete.etag"]

    assert bench.fetch(wanted).verified == "verified: SHA-256"
    assert bench.hub.downloads("m.gguf")[-1]["range"] == f"bytes={kept}-"
    assert kept >= CUT
    assert bench.left() == ["m.gguf"]


def test_a_file_that_changed_meanwhile_is_begun_anew(bench: Bench) -> None:
    """If-Range: the server sends all of the new version, and nothing of two is mixed."""
    bench.place.mkdir()
    (bench.place / "m.gguf.incomplete").write_bytes(b"old" * 1000)
    (bench.place / "m.gguf.incomplete.etag").write_text('"another"')
    bench.fetch(bench.wanted())
    assert (bench.place / "m.gguf").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it_again(bench: Bench) -> None:
    """The answer 200 to a part is the whole."""
    bench.hub.ranges = False
    bench.hub.faults["m.gguf"] = [Fault(cut_after=CUT)]
    bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    assert (bench.place / "m.gguf").read_bytes() == CONTENT


def test_without_version_and_checksum_nothing_is_resumed(bench: Bench) -> None:
    """Nobody could tell whether the two ends belong together."""
    bench.place.mkdir()
    (bench.place / "m.gguf.incomplete").write_bytes(b"who knows")
    bench.fetch(bench.wanted())
    assert (bench.place / "m.gguf").read_bytes() == CONTENT
    assert "range" not in bench.hub.downloads("m.gguf")[0]


@pytest.mark.parametrize(
    "size_bytes", [pytest.param(len(CONTENT), id="size known"), pytest.param(None, id="unknown")]
)
def test_more_than_there_can_be_is_begun_anew(bench: Bench, size_bytes: int | None) -> None:
    """A partial file that is longer than the whole is another's."""
    bench.place.mkdir()
    (bench.place / "m.gguf.incomplete").write_bytes(CONTENT + b"x")
    bench.fetch(bench.wanted(size_bytes=size_bytes, sha256=SHA256))
    assert (bench.place / "m.gguf").read_bytes() == CONTENT


def test_a_whole_partial_file_needs_no_request(bench: Bench) -> None:
    """It was interrupted between the last byte and its name."""
    bench.place.mkdir()
    (bench.place / "m.gguf.incomplete").write_bytes(CONTENT)
    bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    assert bench.hub.asked == []
    assert bench.left() == ["m.gguf"]


@pytest.mark.parametrize(
    ("fault", "slept"),
    [
        pytest.param(Fault(status=500), [1.0], id="500"),
        pytest.param(Fault(status=429, headers={"Retry-After": "7"}), [7.0], id="429, when"),
        pytest.param(Fault(status=503, headers={"Retry-After": "9000"}), [30.0], id="not for ever"),
        pytest.param(Fault(status=503, headers={"Retry-After": "soon"}), [1.0], id="no number"),
    ],
)
def test_a_server_in_trouble_is_asked_again(bench: Bench, fault: Fault, slept: list[float]) -> None:
    """After as long as it wants, within bounds."""
    bench.hub.faults["m.gguf"] = [fault]
    bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    assert bench.slept == slept


def test_an_attempt_after_another_reads_nothing_again(bench: Bench) -> None:
    """The progress never goes back: a model of 40 GB is not summed up anew at each retry."""
    bench.hub.faults["m.gguf"] = [Fault(cut_after=CUT), Fault(status=500)]
    bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    done = [report[0] for report in bench.reports]
    assert done == sorted(done)


def test_in_the_end_it_gives_up(bench: Bench) -> None:
    """Six failures in a row; what is here is kept and said."""
    bench.hub.faults["m.gguf"] = [Fault(cut_after=CUT), *[Fault(status=500)] * 6]
    with pytest.raises(GpuctlError) as raised:
        bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    assert str(raised.value) == (
        "cannot fetch m.gguf: the server answers 500 Internal Server Error"
    )
    assert raised.value.hint.endswith("it goes on where it ended, 1,500,000 bytes are here")
    assert bench.slept == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert incomplete(bench.place / "m.gguf").stat().st_size == CUT


def test_a_date_is_a_version_where_the_etag_is_weak(bench: Bench) -> None:
    """A weak ETag says that two contents mean the same, not that they are the same bytes."""
    date = "Sat, 21 Nov 2026 10:00:00 GMT"
    weak = {"ETag": 'W/"x"', "Last-Modified": date}
    bench.hub.faults["m.gguf"] = [Fault(cut_after=CUT, headers=weak)]
    bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    assert bench.hub.downloads("m.gguf")[1]["if-range"] == date


def test_a_server_that_is_silent_is_asked_again(bench: Bench) -> None:
    """And what happened is said in words, not as a class of a library."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            raise httpx.ReadTimeout("")
        return httpx.Response(200, content=b"{}")

    bench.fetch_from(answer, bench.wanted("a", address="https://h.example/a"))
    assert bench.said == ["a: the server does not answer in time; again in 1 s"]


def test_another_part_than_was_asked_for_is_refused(bench: Bench) -> None:
    bench.place.mkdir()
    (bench.place / "m.gguf.incomplete").write_bytes(CONTENT[:CUT])
    bench.hub.faults["m.gguf"] = [Fault(headers={"Content-Range": "bytes 0-9/10"})]
    with pytest.raises(GpuctlError, match="another part than was asked for"):
        bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
