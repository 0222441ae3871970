"""The ledger of long runs."""

from datetime import UTC, datetime

from tests import soak

FIRST = """\
<?xml version="1.0"?><testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3"
 tests="40" time="7384.2"></testsuite></testsuites>"""
SECOND = """\
<testsuites><testsuite name="pytest" errors="0" failures="1" skipped="0" tests="10" time="60.0">
</testsuite></testsuites>"""


def test_all_runs_are_one_line() -> None:
    """Errors count as failures, and what is neither failed nor skipped has passed."""
    now = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)

    row = soak.line([FIRST, SECOND], now=now, commit="abc1234", machine="2 cores, 8 GiB")

    assert row == "| 2027-01-15 08:00 | abc1234 | 2 cores, 8 GiB | 43 | 4 | 3 | 2 h 4 m |"


def test_the_ledger_is_the_end_of_its_page() -> None:
    """A line that is added becomes a row of the table."""
    assert soak.LEDGER.read_text().rstrip().splitlines()[-1].startswith("|")
