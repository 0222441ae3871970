"""What people write for sizes, durations and ratios, and what is written back to them."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl import quantities

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        pytest.param(0, 0, id="zero"),
        pytest.param(1610612736, 1536 * MIB, id="a-number"),
        pytest.param("1610612736", 1536 * MIB, id="digits"),
        pytest.param("100k", 100 * KIB, id="k"),
        pytest.param("1536m", 1536 * MIB, id="m"),
        pytest.param("32g", 32 * GIB, id="g"),
        pytest.param("2t", 2 * TIB, id="t"),
        pytest.param("2G", 2 * GIB, id="upper-case"),
        pytest.param("2gb", 2 * GIB, id="gb-is-binary-as-in-docker"),
        pytest.param("2GiB", 2 * GIB, id="gib"),
        pytest.param("1.5 GiB", 1536 * MIB, id="decimal-and-space"),
        pytest.param("7b", 7, id="b"),
    ],
)
def test_sizes_are_read_as_docker_reads_them(written: object, size_bytes: int) -> None:
    """Units are binary, in any case, and `b` is optional."""
    assert quantities.parse_bytes(written) == size_bytes


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param("", '"" is not a size', id="empty"),
        pytest.param("12x", '"12x" is not a size', id="unknown-unit"),
        pytest.param("m", '"m" is not a size', id="unit-alone"),
        pytest.param(" 1m", '" 1m" is not a size', id="leading-space"),
        pytest.param("1m\n", '"1m\\x0a" is not a size', id="trailing-newline"),
        pytest.param("\x1b[2J\0", '"\\x1b[2J\\x00" is not a size', id="control-characters"),
        pytest.param("٣m", '"٣m" is not a size', id="other-digits"),
        pytest.param("1e3", '"1e3" is not a size', id="exponent"),
        pytest.param("-1m", '"-1m" is not a size', id="signed-text"),
        pytest.param(-1, "-1 is negative", id="negative"),
        pytest.param(True, "true is not a size", id="boolean"),
        pytest.param(1.5, "1.5 is not a size", id="float"),
        pytest.param(None, "None is not a size", id="none"),
        pytest.param("0.3k", '"0.3k" is not a whole number of bytes', id="part-of-a-byte"),
        pytest.param(
            "9999999t", '"9999999t" is more than a 64-bit number of bytes', id="too-large"
        ),
        pytest.param(10**5000, "that number is more than a 64-bit number", id="huge"),
        pytest.param("9" * 80, f'"{"9" * 56}... is not a size', id="long-text-is-cut"),
    ],
)
def test_a_size_that_is_none_is_refused_with_the_forms(written: object, message: str) -> None:
    """The refusal shows the value and names what would be taken."""
    with pytest.raises(ValueError, match="write bytes as a number") as caught:
        quantities.parse_bytes(written)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        pytest.param(5, 5.0, id="a-number"),
        pytest.param(0.25, 0.25, id="a-float"),
        pytest.param("500ms", 0.5, id="ms"),
        pytest.param("5s", 5.0, id="s"),
        pytest.param("1.5s", 1.5, id="decimal"),
        pytest.param("10m", 600.0, id="m-is-minutes"),
        pytest.param("2h", 7200.0, id="h"),
        pytest.param("1m30s", 90.0, id="two-units"),
        pytest.param("1h0m5s250ms", 3605.25, id="all-units"),
    ],
)
def test_durations_become_seconds(written: object, seconds: float) -> None:
    """A number is seconds; a text carries its unit, largest first."""
    assert quantities.parse_seconds(written) == seconds


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param("", '"" is not a duration', id="empty"),
        pytest.param("5", '"5" is not a duration', id="no-unit"),
        pytest.param("5S", '"5S" is not a duration', id="upper-case"),
        pytest.param("5 s", '"5 s" is not a duration', id="space"),
        pytest.param("30s1m", '"30s1m" is not a duration', id="units-out-of-order"),
        pytest.param("5d", '"5d" is not a duration', id="unknown-unit"),
        pytest.param(-1, "-1 is negative", id="negative"),
        pytest.param(math.inf, "inf is not a duration", id="infinite"),
        pytest.param(math.nan, "nan is not a duration", id="nan"),
        pytest.param(False, "false is not a duration", id="boolean"),
        pytest.param([5], "[5] is not a duration", id="list"),
        pytest.param("90000h", '"90000h" is more than ten years', id="too-long"),
        pytest.param(10**400, "that number is more than ten years", id="huge"),
    ],
)
def test_a_duration_that_is_none_is_refused_with_the_forms(written: object, message: str) -> None:
    """The refusal shows the value and names what would be taken."""
    with pytest.raises(ValueError, match="write seconds as a number") as caught:
        quantities.parse_seconds(written)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("written", "ratio"),
    [(0, 0.0), (1, 1.0), (0.9, 0.9), ("90%", 0.9), ("12.5 %", 0.125), ("100%", 1.0)],
)
def test_ratios_are_read_from_percent_or_share(written: object, ratio: float) -> None:
    """Ninety percent and 0.9 are the same."""
    assert quantities.parse_ratio(written) == ratio


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param(90, "90 is not between 0 and 1", id="percent-without-its-sign"),
        pytest.param(-0.1, "-0.1 is not between 0 and 1", id="negative"),
        pytest.param("101%", '"101%" is not between 0 and 1', id="over-all"),
        pytest.param("0.9", '"0.9" is not a ratio', id="text-without-percent"),
        pytest.param(True, "true is not a ratio", id="boolean"),
        pytest.param(math.nan, "nan is not between 0 and 1", id="nan"),
        pytest.param(10**400, "that number is not between 0 and 1", id="huge"),
    ],
)
def test_a_ratio_that_is_none_is_refused_with_the_forms(written: object, message: str) -> None:
    """90 is never read as 90 %."""
    with pytest.raises(ValueError, match="write a ratio as") as caught:
        quantities.parse_ratio(written)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (900, "900 B"),
        (1536, "1.5 KiB"),
        (512 * MIB, "512 MiB"),
        (1536 * MIB, "1.5 GiB"),
        (1024 * MIB - 1, "1 GiB"),
        (3 * TIB, "3 TiB"),
        (-2 * GIB, "-2 GiB"),
    ],
)
def test_sizes_are_written_for_people(size_bytes: int, text: str) -> None:
    """The unit is the largest that leaves at least one of it."""
    assert quantities.format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (0.9999, "1 s"),
        (1.5, "1.5 s"),
        (9.96, "10 s"),
        (59.6, "1 m"),
        (125, "2 m 5 s"),
        (10800, "3 h"),
        (3660, "1 h 1 m"),
        (90000, "1 d 1 h"),
        (-5, "-5 s"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    """Two units at most, and none that is zero."""
    assert quantities.format_seconds(seconds) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.9, "90 %"), (0.125, "12.5 %"), (0, "0 %")])
def test_ratios_are_written_as_percent(ratio: float, text: str) -> None:
    """People read shares in percent."""
    assert quantities.format_ratio(ratio) == text


@given(st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.none()))
def test_anything_is_a_quantity_or_a_value_error(written: object) -> None:
    """No input whatever ends in another exception, and what is taken is in range."""
    for parse in (quantities.parse_bytes, quantities.parse_seconds, quantities.parse_ratio):
        with contextlib.suppress(ValueError):
            assert 0 <= parse(written) < 2**63


@given(st.integers(min_value=0, max_value=1023), st.sampled_from([1, KIB, MIB, GIB, TIB]))
def test_whole_units_survive_the_round_trip(count: int, unit_bytes: int) -> None:
    """What is formatted without a loss is read back as the same size."""
    size_bytes = count * unit_bytes
    assert quantities.parse_bytes(quantities.format_bytes(size_bytes)) == size_bytes


def test_importing_it_costs_nothing_heavy() -> None:
    """`status` reads sizes without paying for pydantic, tomlkit, typer or rich."""
    heavy = "{'pydantic', 'tomlkit', 'typer', 'rich'}"
    program = f"import sys, gpuctl.quantities; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
