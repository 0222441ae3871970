"""`plan` and `check`: what they say of a profile on a host."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = """\
schema = 1
[host]
name = "h"
[workloads.chat]
engine = "llama.cpp"
image = "i"
model = "m.gguf"
mounts = ["/srv/models:/models:ro"]
port = 8081
"""


def test_what_a_host_cannot_carry_has_its_line(inside: Callable[..., Any], place: Path) -> None:
    """A mistake that only the host shows is told with file and line too."""
    path = place / "mine.toml"
    path.write_text(f"{HOST}gpus = [0, 9]\n")

    done = inside("--simulate", "rtx3090", "check", str(path))

    assert done.code == 2
    where = f"error: {path}:10: workloads.chat.gpus"
    assert f"{where}: GPU 9 is not on this host, which has 0\n" in done.err


def test_the_configured_profile_is_meant_where_none_is_named(
    inside: Callable[..., Any], place: Path
) -> None:
    """`check` and `plan` take the profile that `up` would, and say which."""
    path = place / "profile.toml"
    path.write_text(f'{HOST}gpus = "none"\n')

    checked = inside("--simulate", "cpu", "check")
    planned = inside("--simulate", "cpu", "plan")

    assert (checked.code, planned.code) == (0, 0)
    assert checked.err.endswith(f"{path}: fine: 1 replica\n")
    assert planned.err.endswith(f"profile: {path}\n")
    assert planned.out.splitlines()[1].startswith("chat-0 ")
