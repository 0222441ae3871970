"""The demo's own parts; that it works is shown by running it."""

import socket
import sys
from pathlib import Path

import pytest

from gpuctl import paths
from gpuctl.cli import demonstration
from gpuctl.cli.session import Session


def test_the_demo_keeps_to_its_own_place(tmp_path: Path) -> None:
    """Whatever the environment says, the demo touches no other supervisor's files."""
    session = Session(
        environment={"STATE_DIRECTORY": "/var/lib/gpuctl", "GPUCTL_STATE_DIR": "/s", "HOME": "/h"},
        simulate="p106x8",
    )

    own = demonstration._own(session, tmp_path)

    assert own.simulate == ""
    assert {own.own.config, own.own.state, own.own.runtime} == {
        str(tmp_path),
        str(tmp_path / "run"),
    }


def test_its_profile_is_valid(place: Path) -> None:
    """Two replicas on the CPU, as processes, of the model given."""
    profile = demonstration._profile(Session(environment={}), Path("/m.gguf"))

    (workload,) = profile.workloads
    assert (profile.host.runtime, workload.replicas, workload.model) == ("process", 2, "/m.gguf")


def test_a_port_in_use_is_passed_over() -> None:
    """The demo takes two neighbouring ports that nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()

        assert not demonstration._free(holder.getsockname()[1])
    assert demonstration._free_port() % 2 == 1


def test_a_second_demo_finds_nothing_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a demo that cleaned up leaves behind, its lock and its journal, is simply removed."""
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / ".lock").touch()
    (tmp_path / "state.db").touch()

    demonstration._begin_anew(demonstration._own(Session(environment={}), tmp_path), tmp_path)

    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_left_running_can_be_reached(tmp_path: Path) -> None:
    """Where the shell does not find the program, it is told where that is, first of all."""
    own = paths.Directories("/a demo", "/a demo", "/a demo/run")
    (tmp_path / "gpuctl").touch(mode=0o755)

    found = list(demonstration.afterwards(own, str(tmp_path)))
    lost = list(demonstration.afterwards(own, "/nowhere"))

    assert found[0] == (
        "export 'GPUCTL_CONFIG_DIR=/a demo' 'GPUCTL_STATE_DIR=/a demo'"
        " 'GPUCTL_RUNTIME_DIR=/a demo/run'"
    )
    assert found[-1] == "gpuctl down"
    assert lost == [f"export PATH={Path(sys.executable).parent}:$PATH", *found]
