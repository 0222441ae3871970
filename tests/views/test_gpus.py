"""`gpuctl gpus`: levels, faults and forecasts beside the readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from gpuctl.views import gpus as view
from tests.views.conftest import NOW

GIB = 1024**3

SICK: dict[str, Any] = {
    "index": 3,
    "uuid": "GPU-3",
    "name": "NVIDIA A100",
    "memory_total_bytes": 80 * GIB,
    "memory_used_bytes": 60 * GIB,
    "utilization_ratio": 0.5,
    "temperature_celsius": 84.0,
    "power_watts": 390.4,
    "power_limit_watts": 400.0,
    "sm_clock_hertz": 1.41e9,
    "throttle_reasons": ["hw_thermal"],
    "state": "cordoned",
    "at": NOW - 2,
    "pressure": {"level": "high", "action": "load_small", "room_bytes": 1},
    "heat": "critical",
    "processes": [
        {"pid": 7, "name": "vllm", "vram_bytes": GIB, "container": "c"},
        {"pid": 8, "name": None, "vram_bytes": 1, "container": None},
    ],
    "health": None,
    "xids": [{"number": 31, "count": 2, "at": NOW}, {"number": 79, "count": 1, "at": NOW}],
}
WELL = {
    "ecc_corrected": 0, "ecc_uncorrected": 0, "remapped_rows": 0, "remapped_rows_pending": False,
    "remapped_rows_failure": False, "pcie_generation": 4, "pcie_width": 16,
    "recovery_action": "none",
}  # fmt: skip
FORESEEN = {"unknown": "", "level": "critical", "seconds": 2400, "least_seconds": 1500,
            "most_seconds": 4200}  # fmt: skip


def test_a_gpu_is_one_line() -> None:
    """Its readings, its levels, what was reported of it, and who is on it."""
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(view.table([SICK], NOW))  # type: ignore[list-item]
    (_, line) = captured.get().splitlines()
    told = ("cordoned", "60 GiB", "high", "50 %", "84 °C", "critical", "390/400 W", "hw_thermal")
    assert all(
        word in line for word in (*told, "#########...", "1410 MHz", "Xid 31 x2, Xid 79", "vllm +1")
    )


def test_what_does_not_fit_is_left_out_whole(text: Callable[[RenderableType], list[str]]) -> None:
    """On 120 columns the clocks, the total and the age of the reading make room."""
    (heading, _) = text(view.table([SICK], NOW))  # type: ignore[list-item]
    assert heading.split()[:4] == ["gpu", "name", "state", "vram"]
    assert not {"read", "clock"} & set(heading.split())


def test_an_older_daemons_status_is_shown(
    status: Any, text: Callable[[RenderableType], list[str]]
) -> None:
    """What it does not tell is a dash."""
    lines = text(view.screen(status["gpus"], NOW))
    assert len(lines) == 4
    assert lines[1].split()[-2:] == ["-", "-"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({"health": None, "xids": []}, "no", id="none"),
        pytest.param({"health": WELL, "xids": []}, "no", id="well"),
        pytest.param({"health": None}, "-", id="nothing-would-be-told"),
        pytest.param({"health": WELL | {"ecc_uncorrected": 2}}, "ECC 2", id="ecc"),
        pytest.param(
            {"health": WELL | {"remapped_rows": 1, "remapped_rows_pending": True}},
            "1 row, row pending", id="a-row",
        ),
        pytest.param(
            {"health": WELL | {"remapped_rows": 9, "remapped_rows_failure": True}},
            "9 rows, no row left", id="no-row-left",
        ),
        pytest.param(
            {"health": WELL | {"recovery_action": "gpu_reset"}}, "asks for gpu_reset", id="asks"
        ),
        pytest.param({"health": WELL | {"recovery_action": None}}, "no", id="asks-not-told"),
        pytest.param(
            {"xids": [{"number": 79, "count": 1, "at": NOW}]}, "Xid 79", id="an-xid"
        ),
    ],
)  # fmt: skip
def test_faults(fields: dict[str, Any], told: str) -> None:
    """In few words, and `no` only where something would be told."""
    gpu = {name: value for name, value in SICK.items() if name not in ("health", "xids")}
    assert view.faults({"health": None, **gpu, **fields}) == told  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({}, "critical in about 40 min (25-70)", id="minutes"),
        pytest.param(
            {"seconds": 7200, "least_seconds": 5400, "most_seconds": 12600},
            "critical in about 2 h (2-4)", id="hours",
        ),
        pytest.param(
            {"level": "full", "seconds": 20, "least_seconds": 10, "most_seconds": 50},
            "full in about 1 min (1-1)", id="any-moment",
        ),
    ],
)  # fmt: skip
def test_forecast(fields: dict[str, Any], told: str) -> None:
    """The level, when, and the span of two standard errors."""
    assert view.forecast({**FORESEEN, **fields}) == told  # type: ignore[typeddict-item]


def test_forecasts_are_told_by_gpu_and_reasons_together() -> None:
    """Of a GPU that is lost nothing is foreseen, and nothing need be said."""
    gpus: list[Any] = [
        {"index": 0, "state": "ok", "forecast": FORESEEN},
        {"index": 1, "state": "ok", "forecast": FORESEEN | {"unknown": "steady"}},
        {"index": 2, "state": "ok", "forecast": FORESEEN | {"unknown": "falling"}},
        {"index": 3, "state": "ok", "forecast": FORESEEN | {"unknown": "steady"}},
        {"index": 4, "state": "lost", "forecast": FORESEEN},
        {"index": 5, "state": "ok"},
        {"index": 6, "state": "ok", "forecast": FORESEEN | {"unknown": "of-a-later-gpuctl"}},
        {"index": 7, "state": "ok", "forecast": FORESEEN | {"unknown": "loading"}},
    ]
    assert view.forecasts(gpus) == [
        "gpu 0: critical in about 40 min (25-70)",
        "gpu 1, 3: no forecast: VRAM does not rise steadily",
        "gpu 2: no forecast: VRAM is falling",
        "gpu 6: no forecast: of-a-later-gpuctl",
        "gpu 7: no forecast: a model is being loaded",
    ]


def test_the_forecast_stands_below_the_table(
    text: Callable[[RenderableType], list[str]],
) -> None:
    lines = text(view.screen([SICK | {"forecast": FORESEEN}], NOW))  # type: ignore[list-item]
    assert lines[2:] == [
        "",
        "gpu 3: high pressure: another model may be loaded that leaves the card below critical",
        "gpu 3: heat critical: no new request that a sibling can take",
        "gpu 3: critical in about 40 min (25-70)",
    ]


def test_levels_that_hold_something_back_are_explained_once() -> None:
    """Each with the GPUs that are on it; what holds back nothing needs no words."""

    def level(index: int, pressure: str, heat: str) -> Any:
        return {"index": index, "pressure": {"level": pressure}, "heat": heat}

    told = view.consequences(
        [level(0, "low", "normal"), level(1, "full", "warning"), level(2, "full", "normal")]
    )
    assert told == [
        "gpu 1, 2: full pressure: no other model is loaded; lower what is planned",
        "gpu 1: heat warning: a little less load than its siblings",
    ]
    assert view.consequences([{"index": 3, "pressure": None, "heat": None}]) == []  # type: ignore[typeddict-item]


def test_a_pipe_gets_plain_lines(status: Any) -> None:
    """One a GPU, with the time, and a dash for what is not told."""
    told = list(view.lines([SICK, status["gpus"][2]], "10:51:03"))  # type: ignore[list-item]
    assert told == [
        "10:51:03  gpu 3  cordoned  vram 60 GiB  (75 %, high)  busy 50 %  84 °C (critical)  390 W"
        "  throttled hw_thermal  faults Xid 31 x2, Xid 79",
        "10:51:03  gpu 2  lost  vram -  (-, -)  busy -  - (-)  -  throttled -  faults -",
    ]


@pytest.mark.parametrize(
    ("processes", "told"),
    [
        pytest.param([{"pid": 7, "name": "vllm"}], "vllm", id="one"),
        pytest.param([{"pid": 7, "name": None}], "pid 7", id="without-a-name"),
        pytest.param([{"pid": 7, "name": "a"}] * 3, "a +2", id="several"),
        pytest.param([], "none", id="nobody"),
        pytest.param(None, "-", id="not-reported"),
    ],
)
def test_who_is_on_it(
    text: Callable[[RenderableType], list[str]], processes: Any, told: str
) -> None:
    """The largest by name, and how many others."""
    fields: dict[str, Any] = {
        "name": "x",
        "throttle_reasons": [],
        "xids": [],
        "power_limit_watts": None,
    }
    gpu: Any = SICK | fields | {"processes": processes}
    (heading, line) = text(view.table([gpu], NOW))
    assert line[heading.index("processes") :].startswith(told)
