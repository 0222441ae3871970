"""One file over HTTP, from a real server on loopback that does what servers do."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpuctl.adapters.models.partial import held
from gpuctl.adapters.models.transfer import Fetched, Transfer
from gpuctl.errors import GpuctlError, NotFound
from tests.adapters.transfer_bench import CONTENT, SHA256, Bench, bench, hub
from tests.rig import hub as rig
from tests.rig.hub import FakeHub, Fault

__all__ = ["bench", "hub"]


def test_a_file_is_fetched_and_checked(bench: Bench) -> None:
    """It lies under its name, alone; the progress goes from nothing to all of it."""
    wanted = bench.wanted(size_bytes=len(CONTENT), sha256=SHA256)
    assert bench.fetch(wanted) == Fetched(
        target=wanted.target, verified="verified: SHA-256", sha256=SHA256
    )
    assert wanted.target.read_bytes() == CONTENT
    assert bench.left() == ["m.gguf"]
    assert bench.reports[0] == (0, len(CONTENT))
    assert bench.reports[-1] == (len(CONTENT), len(CONTENT))
    assert wanted.target.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_what_is_there_is_not_asked_for(bench: Bench) -> None:
    """A file of the right size is taken as it is; one of unknown size by its sum."""
    bench.place.mkdir()
    (bench.place / "m.gguf").write_bytes(CONTENT)
    there = Fetched(target=bench.place / "m.gguf", verified="there already")
    assert bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256)) == there
    assert bench.fetch(bench.wanted(sha256=SHA256)) == there
    assert bench.fetch(bench.wanted()) == there
    assert bench.hub.asked == []


def test_a_file_of_another_size_is_replaced(bench: Bench) -> None:
    """An older revision, or one that somebody cut: it stays until the new one is whole."""
    bench.place.mkdir()
    (bench.place / "m.gguf").write_bytes(b"old")
    bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    assert (bench.place / "m.gguf").read_bytes() == CONTENT


def test_a_git_blob_id_is_a_checksum_too(bench: Bench) -> None:
    """A small file has no SHA-256 at the hub."""
    wanted = bench.wanted("small.json", size_bytes=2, blob_id=rig.blob_id(b"{}"))
    assert bench.fetch(wanted).verified == "verified: git blob id"


def test_without_a_checksum_it_says_so(bench: Bench) -> None:
    """And tells the sum, to be compared by hand."""
    assert bench.fetch(bench.wanted()).verified == (
        f"not verified: no checksum was given; its SHA-256 is {SHA256}"
    )


def test_an_empty_file_is_a_file(bench: Bench) -> None:
    wanted = bench.wanted("empty", size_bytes=0, blob_id=rig.blob_id(b""))
    assert bench.fetch(wanted).target.read_bytes() == b""


def test_another_content_is_refused_and_removed(bench: Bench) -> None:
    """Neither the name nor what came is left behind: the next pull begins anew."""
    bench.hub.faults["m.gguf"] = [Fault(instead=b"x" * len(CONTENT))]
    with pytest.raises(GpuctlError, match="is not the file that was published: its checksum"):
        bench.fetch(bench.wanted(size_bytes=len(CONTENT), sha256=SHA256))
    assert bench.left() == []


def test_another_size_than_promised_is_refused(bench: Bench) -> None:
    """Before its body is taken."""
    with pytest.raises(GpuctlError, match="the server has 2,560,000 bytes of it, and 5 were"):
        bench.fetch(bench.wanted(size_bytes=5, sha256=SHA256))
    assert bench.left() == []


def test_nobody_answers(bench: Bench) -> None:
    """After one try more, with the system's word, and no file left behind."""
    wanted = bench.wanted(address="http://127.0.0.1:9/m.gguf")
    with pytest.raises(GpuctlError, match=r"cannot fetch m\.gguf: the connection failed: [^\[]"):
        bench.fetch(wanted)
    assert (bench.slept, bench.left()) == ([1.0], [])


@pytest.mark.parametrize(
    "met",
    [
        pytest.param([httpx.Response(503)], id="a server in trouble that is restarted"),
        pytest.param([httpx.ConnectError("no route")], id="a line that is away"),
        pytest.param(
            [httpx.Response(200, headers={"Content-Length": "9"}, content=b"ab")], id="some of it"
        ),
    ],
)
def test_who_has_answered_is_waited_for(bench: Bench, met: list[Any]) -> None:
    """A server that is away for a moment is back in another; only nobody at all is a mistake."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = met.pop(0) if met else None
        if isinstance(found, httpx.Response):
            return found
        if found is not None:
            raise found
        raise httpx.ConnectError("refused") from ConnectionRefusedError(111, "refused")

    wanted = bench.wanted("a", address="https://h.example/a", sha256=SHA256)
    with pytest.raises(GpuctlError, match="cannot fetch a: the connection failed: refused"):
        bench.fetch_from(answer, wanted)
    assert bench.slept == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, GpuctlError, "m.gguf: 127.0.0.1 answers 401 Unauthorized"),
        (403, GpuctlError, "m.gguf: 127.0.0.1 answers 403 Forbidden"),
        (404, NotFound, "m.gguf: 127.0.0.1 answers 404 Not Found"),
        (410, NotFound, "m.gguf: 127.0.0.1 answers 410 Gone"),
        (451, GpuctlError, "m.gguf: 127.0.0.1 answers 451 Unavailable For Legal Reasons"),
    ],
)
def test_a_refusal_is_final(
    bench: Bench, status: int, kind: type[GpuctlError], message: str
) -> None:
    """It is not asked again, and nothing is left behind."""
    bench.hub.faults["m.gguf"] = [Fault(status=status)]
    with pytest.raises(kind) as raised:
        bench.fetch(bench.wanted(denied_hint="with a token"))
    assert str(raised.value) == message
    assert ("with a token" in raised.value.hint) == (status in (401, 403))
    assert (bench.slept, bench.left()) == ([], [])


def test_redirects_are_bounded(bench: Bench) -> None:
    """A server that sends round in circles is left."""
    round_again = Fault(status=302, headers={"Location": f"{bench.hub.store}/o/n/m.gguf"})
    bench.hub.faults["m.gguf"] = [round_again] * 10
    with pytest.raises(GpuctlError, match=r"m\.gguf: more than 5 redirects"):
        bench.fetch(bench.wanted())
    assert len(bench.hub.asked) == 6


def test_a_redirect_into_the_clear_is_refused(bench: Bench) -> None:
    """Https that ends in http could be read and altered on the way; the signature is not shown."""
    clear = Fault(status=302, headers={"Location": "http://h.example/m.gguf?signature=s"})
    bench.hub.faults["m.gguf"] = [clear]
    with pytest.raises(GpuctlError) as raised:
        bench.fetch(bench.wanted())
    assert str(raised.value) == (
        "m.gguf: the server sends to http://h.example/m.gguf, which is not https"
    )


def test_a_server_elsewhere_sends_to_none_of_this_machine(bench: Bench) -> None:
    """What https begins does not end at a port of this machine that nobody else may reach."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": "http://127.0.0.1:6379/m"})

    wanted = bench.wanted(address="https://h.example/m")
    with pytest.raises(GpuctlError, match=r"sends to http://127\.0\.0\.1:6379/m, which is not"):
        bench.fetch_from(answer, wanted)


def test_more_than_was_promised_is_refused(bench: Bench) -> None:
    """A server that tells no length, and goes on after the end."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=iter([b"12345", b"6"]))

    wanted = bench.wanted("a", address="https://h.example/a", size_bytes=5)
    with pytest.raises(GpuctlError, match="it has more than 5 bytes; what came is removed"):
        bench.fetch_from(answer, wanted)
    assert bench.left() == []


def test_a_token_goes_to_its_own_host_alone(bench: Bench) -> None:
    """The store that the hub redirects to does not see it."""
    bench.fetch(
        bench.wanted(
            address=f"{bench.hub.endpoint}/o/n/resolve/{rig.COMMIT}/m.gguf",
            headers={"Authorization": "Bearer hf_right"},
        )
    )
    seen = [(asked.host, "authorization" in asked.headers) for asked in bench.hub.asked]
    assert seen == [("hub", True), ("store", False)]


def test_no_room_is_known_before_the_body(hub: FakeHub, tmp_path: Path) -> None:
    """Where the size was not known before, the server's word on it is."""
    bench = Bench(hub, tmp_path / "models", free_bytes=1024**3)
    with pytest.raises(GpuctlError, match=r"1 GiB free, 2\.4 MiB to fetch"):
        bench.fetch(bench.wanted())
    assert bench.left() == []


def test_a_directory_that_cannot_be_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bench = Bench(hub, tmp_path / "file")
    with pytest.raises(GpuctlError, match=r"cannot store m\.gguf in .*/file: ") as raised:
        bench.fetch(bench.wanted())
    assert raised.value.hint == "name another directory with --to"


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "make room on its disk and run the same again: what is there is kept"),
        (errno.EROFS, "use sudo, or `sudo install -d -o $USER {}`, or another directory with --to"),
    ],
)
def test_a_disk_that_refuses_has_a_next_step(bench: Bench, number: int, hint: str) -> None:
    """Told as it happens: here, by what reports the progress."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with httpx.Client() as client, pytest.raises(GpuctlError) as raised:
        Transfer(client=client, say=bench.said.append).fetch(bench.wanted(), fail)
    assert raised.value.hint == hint.format(bench.place)


def test_two_pulls_of_one_file_fetch_it_once(bench: Bench) -> None:
    """The second waits for the first, and finds the file there."""
    wanted = bench.wanted(size_bytes=len(CONTENT), sha256=SHA256)
    bench.place.mkdir()
    waits = threading.Event()
    results: list[Fetched] = []

    def second() -> None:
        with httpx.Client() as client:
            transfer = Transfer(client=client, say=lambda _: waits.set())
            results.append(transfer.fetch(wanted, lambda *_: None))

    with held(wanted.target, waits.set) as partial:
        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(10)
        partial.write(CONTENT)
        partial.finish()
    other.join(10)
    assert results == [Fetched(target=wanted.target, verified="there already")]
    assert (bench.hub.asked, bench.left()) == ([], ["m.gguf"])


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
