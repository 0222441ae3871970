"""Where gpuctl keeps its files."""

import grp
import os
from pathlib import Path

import pytest

from gpuctl import paths
from gpuctl.paths import Directories, directories, reading

HOME = {"HOME": "/home/ada"}


@pytest.mark.parametrize(
    ("environment", "root", "simulate", "expected"),
    [
        pytest.param(
            {"HOME": "/root"},
            True,
            "",
            Directories("/etc/gpuctl", "/var/lib/gpuctl", "/run/gpuctl"),
            id="root",
        ),
        pytest.param(
            {**HOME, "XDG_RUNTIME_DIR": "/run/user/1000"},
            False,
            "",
            Directories(
                "/home/ada/.config/gpuctl",
                "/home/ada/.local/state/gpuctl",
                "/run/user/1000/gpuctl",
            ),
            id="user",
        ),
        pytest.param(
            {**HOME, "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"},
            False,
            "",
            Directories("/c/gpuctl", "/s/gpuctl", "/s/gpuctl/run"),
            id="user without a login session",
        ),
        pytest.param(
            {"GPUCTL_CONFIG_DIR": "/a", "GPUCTL_STATE_DIR": "/b", "GPUCTL_RUNTIME_DIR": "/c"},
            True,
            "",
            Directories("/a", "/b", "/c"),
            id="named",
        ),
        pytest.param(
            {
                "CONFIGURATION_DIRECTORY": "/etc/x:/etc/y",
                "STATE_DIRECTORY": "/var/lib/x",
                "RUNTIME_DIRECTORY": "/run/x",
                "GPUCTL_STATE_DIR": "/b",
            },
            True,
            "",
            Directories("/etc/x", "/var/lib/x", "/run/x"),
            id="systemd first",
        ),
        pytest.param(
            HOME,
            True,
            "hosts/p106x8.json",
            Directories(
                "/home/ada/.config/gpuctl",
                "/home/ada/.local/state/gpuctl/simulated-p106x8",
                "/home/ada/.local/state/gpuctl/simulated-p106x8/run",
            ),
            id="simulated",
        ),
        pytest.param(
            {"GPUCTL_STATE_DIR": "/b", "GPUCTL_RUNTIME_DIR": "/c", **HOME},
            True,
            "p106x8",
            Directories("/home/ada/.config/gpuctl", "/b", "/c"),
            id="simulated and named",
        ),
    ],
)
def test_directories(
    environment: dict[str, str], root: bool, simulate: str, expected: Directories
) -> None:
    """systemd's directories come first, then gpuctl's variables, then the defaults."""
    assert directories(environment, root=root, simulate=simulate) == expected


def test_a_user_reads_the_system_when_only_that_is_supervised(tmp_path: Path) -> None:
    """A user without a daemon of their own looks at the system's."""
    system = Directories(str(tmp_path / "etc"), str(tmp_path / "lib"), str(tmp_path))
    (tmp_path / "status.json").write_text("{}")

    assert reading({"HOME": "/nowhere"}, root=False, system=system) == system


def test_a_named_directory_is_meant(tmp_path: Path) -> None:
    """A reader told where to look looks nowhere else."""
    system = Directories(str(tmp_path / "etc"), str(tmp_path / "lib"), str(tmp_path))
    (tmp_path / "status.json").write_text("{}")

    named = reading({"GPUCTL_RUNTIME_DIR": "/nowhere"}, root=False, system=system)

    assert named.runtime == "/nowhere"


def test_files_have_their_places() -> None:
    """What scripts and other programs rely on sits at fixed names."""
    there = Directories("/c", "/s", "/r")

    assert (
        there.status,
        there.socket,
        there.database,
        there.applied,
        there.daemon_log,
        there.gateway,
        there.keys,
    ) == (
        "/r/status.json",
        "/r/gpuctl.sock",
        "/s/state.db",
        "/s/applied.json",
        "/s/daemon.log",
        "/r-gateway/gateway.json",
        "/c/keys.json",
    )


@pytest.mark.parametrize(
    ("mode", "group", "expected"),
    [
        pytest.param(0o100640, 0, "use sudo: it belongs to root:root", id="root's alone"),
        pytest.param(0o100600, 1, "use sudo: it belongs to root:{group}", id="not for its group"),
        pytest.param(
            0o100640, 1, "join the group `{group}`, or use sudo: it belongs to root:{group}",
            id="for its group",
        ),
        pytest.param(
            0o140660, 54321, "join the group `54321`, or use sudo: it belongs to root:54321",
            id="a group without a name",
        ),
    ],
)  # fmt: skip
def test_who_may_open_a_file_is_told(mode: int, group: int, expected: str) -> None:
    """The group is named that the file has, and only where that would help."""
    found = os.stat_result((mode, 0, 0, 1, 0, group, 0, 0, 0, 0))

    assert paths.next_step(found) == expected.format(group=grp.getgrgid(1).gr_name)


def test_what_cannot_be_looked_at(tmp_path: Path) -> None:
    """The directory tells where the file cannot be seen; where neither can, sudo is left."""
    of_directory = paths.next_step(tmp_path.stat())

    assert paths.denied(f"{tmp_path}/status.json") == of_directory
    assert paths.denied(f"{tmp_path}/no/status.json") == "use sudo"
