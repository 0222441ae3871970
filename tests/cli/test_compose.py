"""Where the replicas of a profile run: decided once, by `up`."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from gpuctl.adapters.process import ProcessRuntime
from gpuctl.cli import bring_up, choose, compose
from gpuctl.cli.session import Session
from gpuctl.model import HostSettings, Profile
from tests.adapters.process_bench import shell
from tests.cli import fake_docker

OPEN = Profile(host=HostSettings(name="rig"))


def wanting(runtime: Literal["docker", "process"]) -> Profile:
    return replace(OPEN, host=replace(OPEN.host, runtime=runtime))


def test_docker_where_an_engine_answers(here: Session, docker: Path) -> None:
    """A profile that leaves the runtime open is given Docker where there is one."""
    with fake_docker.answering(docker):
        assert compose.resolved(here, OPEN) == wanting("docker")


def test_processes_where_none_answers(here: Session) -> None:
    """Without an engine its replicas are processes."""
    assert compose.resolved(here, OPEN) == wanting("process")


def test_what_a_profile_says_is_not_asked_for(here: Session, docker: Path) -> None:
    """A profile that names its runtime has it, whatever is there; a simulated host has its own."""
    simulated = replace(here, simulate="p106x8")
    with fake_docker.hung(docker) as asked:
        assert compose.resolved(here, wanting("process")) == wanting("process")
        assert compose.resolved(here, wanting("docker")) == wanting("docker")
        assert compose.resolved(simulated, OPEN) == OPEN
        assert not asked()


def test_what_is_applied_keeps_its_runtime(here: Session, docker: Path) -> None:
    """Applied with Docker there, it is Docker's with the engine gone, also for a later `up`."""
    with fake_docker.answering(docker):
        bring_up.apply(here, compose.resolved(here, OPEN))

    assert choose.applied(here) == wanting("docker")
    assert compose.resolved(here, choose.chosen(here, None)) == wanting("docker")


def test_an_earlier_version_left_it_open(here: Session, docker: Path, place: Path) -> None:
    """Such a copy is Docker's, or where processes are recorded theirs; nobody is asked."""
    bring_up.apply(here, OPEN)
    with fake_docker.hung(docker) as asked:
        assert choose.applied(here) == wanting("docker")

        processes = ProcessRuntime(place / "processes", units=False)
        processes.create("gpuctl-chat-0", shell("true"), {"gpuctl.replica": "chat-0"})
        assert choose.applied(here) == wanting("process")
        assert not asked()
