"""`doctor` for people."""

from collections.abc import Callable

from gpuctl.diagnosis import Finding, Level
from gpuctl.views import diagnosis


def finding(check: str, level: Level, reason: str, message: str, fix: str = "") -> Finding:
    group = "driver" if check in ("nvml", "nouveau") else "docker"
    return Finding(group=group, check=check, level=level, reason=reason, message=message, fix=fix)


FOUND = (
    finding("nvml", "ok", "ok", "driver 580.95.05, CUDA 13.0", "never shown"),
    finding("nouveau", "skip", "not_applicable", "no NVIDIA card on the PCI bus"),
    finding("engine", "fail", "docker_absent", "no Docker Engine listens", "start it"),
    finding("live_restore", "warn", "live_restore_off", "off"),
    finding("logs", "skip", "no_permission", "daemon.json: permission denied", "use sudo"),
    finding("configuration", "skip", "no_permission", "daemon.json: permission denied", "use sudo"),
    finding("images", "skip", "no_answer", "no answer"),
)


def test_what_is_listed(text: Callable[..., list[str]]) -> None:
    """Groups, a line a check, a fix where there is one to make, and what could not be judged."""
    assert text(diagnosis.listed(FOUND)) == [
        "driver",
        "    ok  nvml          driver 580.95.05, CUDA 13.0",
        "",
        "docker",
        "  fail  engine        no Docker Engine listens [docker_absent]",
        "                      fix: start it",
        "  warn  live_restore  off [live_restore_off]",
        "",
        "not judged: logs, configuration: daemon.json: permission denied (use sudo)",
        "not judged: images: no answer",
        "1 fail, 1 warn, 1 ok, 4 not judged",
    ]


def test_everything_is_listed(text: Callable[..., list[str]]) -> None:
    """With --all the checks that were left out stand in their places, with why."""
    shown = text(diagnosis.listed(FOUND[:2], everything=True))
    assert shown == [
        "driver",
        "    ok  nvml     driver 580.95.05, CUDA 13.0",
        "  skip  nouveau  no NVIDIA card on the PCI bus [not_applicable]",
        "",
        "0 fail, 0 warn, 1 ok, 1 not judged",
    ]


def test_a_simulated_host_says_so(text: Callable[..., list[str]]) -> None:
    """What a simulation cannot tell is counted in one line, loudly."""
    simulated = tuple(finding(name, "skip", "simulated", "it does not tell") for name in ("a", "b"))
    assert text(diagnosis.listed((FOUND[0], *simulated)))[-2:] == [
        "simulated host: its GPUs and the profile are judged; 2 checks were not made",
        "0 fail, 0 warn, 1 ok, 2 not judged",
    ]


def test_nothing_at_all(text: Callable[..., list[str]]) -> None:
    assert text(diagnosis.listed(())) == ["0 fail, 0 warn, 0 ok, 0 not judged"]
