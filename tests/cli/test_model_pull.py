"""`gpuctl models pull`, as the program, against a hub on loopback."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Done
from tests.rig import hub as rig
from tests.rig.hub import FakeHub, Fault

pytestmark = pytest.mark.program

LARGE = b"weights" * 1000
SHA256 = hashlib.sha256(LARGE).hexdigest()
PROFILE = """\
schema = 1
[host]
name = "host"
runtime = "process"
[workloads.chat]
engine = "llama.cpp"
model = "{model}"
mounts = ["{place}/models:/models:ro"]
gpus = "none"
port = 8081
"""


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with rig.running() as served:
        served.repositories["o/n-GGUF"] = {"n-Q4_0.gguf": LARGE, "n-Q8_0.gguf": LARGE + b"8"}
        served.repositories["o/n"] = {"config.json": b"{}", "model.safetensors": LARGE}
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setenv("HF_HOME", str(place / "hf"))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        yield served


def test_a_quantization_goes_into_the_cache(
    hub: FakeHub, gpuctl: Callable[..., Done], place: Path
) -> None:
    """Stdout has the path and nothing else; stderr says that it was checked."""
    done = gpuctl("models", "pull", "o/n-GGUF:Q4_0")

    path = place / f"hf/hub/models--o--n-GGUF/snapshots/{rig.COMMIT}/n-Q4_0.gguf"
    assert (done.code, done.out) == (0, f"{path}\n")
    assert path.read_bytes() == LARGE
    lines = done.err.splitlines()
    assert lines[0] == (f"o/n-GGUF at 111111111111: 1 file, 6.8 KiB to fetch, into {place}/hf/hub")
    assert lines[-1].endswith(", verified: SHA-256")


def test_the_second_time_it_is_there(hub: FakeHub, inside: Callable[..., Done]) -> None:
    """Only the hub is asked, for what the branch is now."""
    first = inside("models", "pull", "o/n")
    hub.asked.clear()
    second = inside("models", "pull", "o/n")

    assert second == Done(
        0, first.out, "config.json: there already\nmodel.safetensors: there already\n"
    )
    assert {asked.host for asked in hub.asked} == {"hub"}


def test_a_directory_gets_the_files_by_their_names(
    hub: FakeHub, inside: Callable[..., Done], place: Path
) -> None:
    done = inside("models", "pull", "o/n", "--to", str(place / "m"))

    assert (done.code, done.out) == (0, f"{place}/m\n")
    assert sorted(path.name for path in (place / "m").iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip


def test_an_address_is_checked_by_its_sum(
    hub: FakeHub, inside: Callable[..., Done], place: Path
) -> None:
    """Into gpuctl's own models directory; another sum is refused and leaves nothing."""
    address = f"{hub.store}/o/n/model.safetensors"
    wrong = inside("models", "pull", address, "--sha256", "0" * 64)
    right = inside("models", "pull", address, "--sha256", SHA256.upper())

    assert wrong.code == 1
    assert "is not the file that was published" in wrong.err
    assert (right.code, right.out) == (0, f"{place}/models/model.safetensors\n")


def test_offline_what_is_cached_is_found(
    hub: FakeHub, inside: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    """And nobody is asked; what is not cached is an error that says why."""
    first = inside("models", "pull", "o/n")
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    second = inside("models", "pull", "o/n")
    none = inside("models", "pull", "o/n-GGUF:Q4_0")
    elsewhere = inside("models", "pull", "o/n", "--to", str(place))

    assert (second.code, second.out) == (0, first.out)
    assert "HF_HUB_OFFLINE is set, so the hub was not asked" in second.err
    assert none.code == elsewhere.code == 1
    assert "o/n-GGUF cannot be fetched into the cache" in none.err
    assert "o/n cannot be fetched into the directory of --to: HF_HUB_OFFLINE" in elsewhere.err
    assert hub.asked == []


def test_a_gated_model_needs_a_token(
    hub: FakeHub, inside: Callable[..., Done], tmp_path: Path
) -> None:
    """From a file; it is in no output, and the store does not see it."""
    hub.gated.add("o/n")
    (tmp_path / "token").write_text(f"{hub.token}\n")
    without = inside("models", "pull", "o/n")
    done = inside("models", "pull", "o/n", "--token-file", str(tmp_path / "token"))

    assert without.code == 1
    assert "127.0.0.1 answers 403 Forbidden" in without.err
    assert "give a token with --token-file FILE, HF_TOKEN" in without.err
    assert done.code == 0
    assert hub.token not in done.out + done.err
    assert all("authorization" not in asked.headers for asked in hub.asked if asked.host == "store")


def test_a_full_disk_is_known_before_a_byte(
    hub: FakeHub, inside: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needed, free and where are said; the store was not asked."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Disk())
    done = inside("models", "pull", "o/n")

    assert done.code == 1
    assert "512 MiB free, 6.8 KiB to fetch, and 1 GiB of the disk is to stay free" in done.err
    assert {asked.host for asked in hub.asked} == {"hub"}


class _Disk:
    free = 512 * 1024**2


def test_an_interruption_keeps_what_came(
    hub: FakeHub, place: Path, gpuctl: Callable[..., Done]
) -> None:
    """Exit code 130; the next pull goes on from there."""
    hub.repositories["o/n-GGUF"]["n-Q4_0.gguf"] = LARGE * 1000
    # Cut, and then no answer for long enough: it waits between two attempts.
    hub.faults["n-Q4_0.gguf"] = [
        Fault(cut_after=3_000_000), *[Fault(status=503, headers={"Retry-After": "30"})] * 9
    ]  # fmt: skip
    command = [sys.executable, "-m", "gpuctl", "models", "pull", "o/n-GGUF:Q4_0", "--to"]
    program = subprocess.Popen(
        [*command, str(place / "m")], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert program.stderr is not None
    for line in program.stderr:
        if "again in 30 s" in line:
            break
    program.send_signal(signal.SIGINT)
    rest = program.communicate(timeout=30)[1]

    assert program.returncode == 130
    assert rest == "interrupted: what is here is kept; the same command goes on from there\n"
    assert (place / "m/n-Q4_0.gguf.incomplete").stat().st_size == 3_000_000
    hub.faults.clear()
    assert gpuctl("models", "pull", "o/n-GGUF:Q4_0", "--to", str(place / "m")).code == 0
    assert hub.downloads("n-Q4_0.gguf")[-1]["range"] == "bytes=3000000-"
    assert (place / "m/n-Q4_0.gguf").read_bytes() == LARGE * 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "which model?", id="none"),
        pytest.param(["o/n", "--profile", "cpu"], "give one of them", id="two"),
        pytest.param(["n"], "'n' is no model's name", id="no name"),
        pytest.param(["o/n", "--sha256", "0" * 64], "--sha256 is for an address", id="sum"),
        pytest.param(["https://h.example/m", "--file", "x"], "for a repository", id="file"),
        pytest.param(["https://h.example/m", "--sha256", "xy"], "is no SHA-256", id="no sum"),
        pytest.param(["https://h.example/m", "--token-file", "x"], "no token is sent", id="token"),
        pytest.param(["--profile", "cpu", "--to", "/x"], "not for a profile", id="profile"),
        pytest.param(["o/none"], "shows no repository o/none", id="not there"),
        pytest.param(["o/n", "--revision", "v9"], "o/n has no revision v9", id="no revision"),
        pytest.param(["o/n-GGUF"], "has several models: Q4_0", id="several"),
    ],
)
def test_what_makes_no_sense_is_refused(
    hub: FakeHub, inside: Callable[..., Done], arguments: list[str], message: str
) -> None:
    """Exit code 2, with what to write instead."""
    done = inside("models", "pull", *arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "hint: " in done.err


def test_a_simulated_host_has_no_files(inside: Callable[..., Done]) -> None:
    done = inside("--simulate", "cpu", "models", "pull", "o/n")

    assert done.code == 2
    assert "a simulated host has no files of its own" in done.err


def write(place: Path, text: str) -> str:
    path = place / "own.toml"
    path.write_text(text)
    return str(path)


def test_a_profile_s_models_go_where_they_are_looked_for(
    hub: FakeHub, inside: Callable[..., Done], place: Path
) -> None:
    """ORG/NAME/FILE tells where it comes from; then `check` has nothing to say of it."""
    profile = write(place, PROFILE.format(model="o/n-GGUF/n-Q4_0.gguf", place=place))
    (place / "models").mkdir()
    before = inside("check", profile)
    first = inside("models", "pull", "--profile", profile)
    second = inside("models", "pull", "--profile", profile)

    path = place / "models/o/n-GGUF/n-Q4_0.gguf"
    assert (first.code, first.out) == (0, f"{path}\n")
    assert path.read_bytes() == LARGE
    assert second == Done(0, f"{path}\n", "o/n-GGUF/n-Q4_0.gguf: there already\n")
    folder = place / "models/o/n-GGUF"
    assert f"`gpuctl models pull o/n-GGUF --file n-Q4_0.gguf --to {folder}`" in before.err
    assert f"there is no {path}" not in inside("check", profile).err


def test_a_repository_goes_into_the_cache_that_is_mounted(
    hub: FakeHub, inside: Callable[..., Done], place: Path
) -> None:
    """Where the engine in the container finds it."""
    text = PROFILE.format(model="o/n", place=place).replace("llama.cpp", "vllm")
    text = text.replace("/models:/models:ro", "/cache:/root/.cache/huggingface")
    text = text.replace('runtime = "process"', "") + 'image = "vllm/vllm-openai:v0.33.0"\n'
    done = inside("models", "pull", "--profile", write(place, text))

    path = place / f"cache/hub/models--o--n/snapshots/{rig.COMMIT}"
    assert (done.code, done.out) == (0, f"{path}\n")


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        pytest.param(
            {"model": "n-Q4_0.gguf"}, "a bare name does not tell which repository has it",
            "gpuctl models pull ORG/NAME --file n-Q4_0.gguf --to {place}/models", id="a bare name",
        ),
        pytest.param(
            {"place": "volume"}, "has no directory of this host to lie in",
            "add a mount of one", id="a volume",
        ),
    ],
)  # fmt: skip
def test_what_a_profile_does_not_tell_is_asked_for(
    hub: FakeHub, inside: Callable[..., Done], place: Path, change: dict[str, str],
    message: str, hint: str,
) -> None:  # fmt: skip
    """Exit code 2; the hint has the command, with what only a person knows left open."""
    fields: dict[str, Any] = {"model": "o/n-GGUF/n-Q4_0.gguf", "place": str(place), **change}
    text = PROFILE.format(**fields).replace("volume/models:", "volume:")
    done = inside("models", "pull", "--profile", write(place, text))

    assert done.code == 2
    assert f"error: workloads.chat.model: {fields['model']} " in done.err
    assert message in done.err
    assert hint.format(place=place) in done.err


def test_the_demo_s_model_goes_where_the_cpu_profile_looks(
    inside: Callable[..., Done], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gpuctl models pull demo` and the profile `cpu` agree on the place; --to names another."""
    from gpuctl.adapters import model_files

    asked: list[Path] = []

    def fetched(cache: Path, _: object) -> Path:
        asked.append(cache)
        return cache / "model.gguf"

    monkeypatch.setattr(model_files, "fetch_demo_model", fetched)
    inside("models", "pull", "demo")
    done = inside("models", "pull", "demo", "--to", str(place))
    own = PROFILE.format(model=model_files.DEMO_MODEL.file_name, place=place)
    inside("models", "pull", "--profile", write(place, own))

    assert asked == [Path("/var/lib/gpuctl/models"), place, place / "models"]
    assert (done.code, done.out) == (0, f"{place}/model.gguf\n")
