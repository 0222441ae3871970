"""What `status` shows on a terminal."""

from collections.abc import Callable
from typing import Any

import pytest

from gpuctl.views import terminal

NOW = 1_800_000_000.0

EXPECTED = """\
p106x8 · 4 replicas: 1 busy, 2 ready, 1 backoff · daemon 4242 (0.1.0) · 2 s old
replica  phase    gpu  port  since  1h/24h  in flight      ram     vram  why
chat-0   busy     0    8081    2 h     0/0          1  1.2 GiB  5.1 GiB
chat-1   ready    1    8082    2 h     0/0          0  1.2 GiB  5.1 GiB
chat-2   backoff  2    8083    5 s     3/4          -        -        -  oom_killed, next now
embed-0  ready    0    8181    2 h     0/0          0  1.2 GiB  600 MiB

gpu  name             state     vram     of  used  busy   temp  power  throttled            read
  0  NVIDIA P106-100  ok     5.3 GiB  6 GiB  88 %  50 %  61 °C   88 W  no                    2 s
  1  NVIDIA P106-100  ok     5.3 GiB  6 GiB  88 %  99 %  84 °C   88 W  sw_thermal_slowdown   2 s
  2  NVIDIA P106-100  lost         -  6 GiB     -     -      -      -  -                     5 m

condition    subject  state     reason         for
gpu_missing  gpu 2    failed    gpu_lost       5 m
restarts     chat-2   degraded  many_restarts  1 m
`gpuctl why SUBJECT` says what led to it, and what to do
warning: host RAM: limits add up to 16 GiB of 15 GiB"""


def test_the_whole_status(status: Any, text: Callable[..., list[str]]) -> None:
    """Header, replicas, GPUs, conditions and warnings, readable without colour."""
    status["replicas"][2]["next_attempt_at"] = NOW
    status["replicas"][3]["outdated"] = False

    assert "\n".join(text(terminal.whole(status, alive=True, now=NOW))) == EXPECTED


def test_the_gateway_is_told_of_below_the_header(
    status: Any, text: Callable[..., list[str]]
) -> None:
    """One line, where the profile has a gateway."""
    lines = text(terminal.whole(status, alive=True, now=NOW, gateway="gateway [::]:4000"))

    assert lines[1:3] == ["gateway [::]:4000", EXPECTED.splitlines()[1]]


def test_brackets_in_a_name_are_shown(status: Any, text: Callable[..., list[str]]) -> None:
    """A GPU's name is text, not markup."""
    status["gpus"][0]["name"] = "[red]A[/red]"

    lines = text(terminal.whole(status, alive=True, now=NOW))

    assert any("[red]A[/red]" in line for line in lines)


def test_a_status_without_gpus_and_conditions(
    status: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a host where all is well there is no empty table; it goes to stdout."""
    status |= {"replicas": status["replicas"][:1], "gpus": [], "conditions": [], "warnings": []}

    terminal.show_status(status, alive=True, now=NOW)

    printed = capsys.readouterr()
    assert [" ".join(line.split()) for line in printed.out.splitlines()] == [
        "p106x8 · 1 replica: 1 busy · daemon 4242 (0.1.0) · 2 s old",
        "replica phase gpu port since 1h/24h in flight ram vram why",
        "chat-0 busy 0 8081 2 h 0/0 1 1.2 GiB 5.1 GiB",
    ]
    assert printed.err == ""
