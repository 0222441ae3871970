"""Which profile a command means."""

from pathlib import Path

import pytest

from gpuctl.cli import bring_up, choose, compose
from gpuctl.cli.session import Session
from gpuctl.errors import NotFound, UsageError


@pytest.fixture
def session(place: Path) -> Session:
    names = {f"GPUCTL_{name}_DIR": str(place) for name in ("CONFIG", "STATE", "RUNTIME")}
    return Session(environment=names)


def test_what_is_named(session: Session) -> None:
    """A shipped profile is found by its name."""
    assert choose.chosen(session, "p106x8").host.name == "p106x8"


def test_what_is_configured(session: Session, place: Path) -> None:
    """gpuctl.toml names the profile to use; profile.toml is one."""
    (place / "profile.toml").write_text(choose.load(session, "cpu").source)
    assert choose.configured(session) == f"{place}/profile.toml"

    (place / "gpuctl.toml").write_text('profile = "rtx3090"\n')
    assert choose.configured(session) == "rtx3090"

    (place / "mine.toml").write_text("")
    (place / "gpuctl.toml").write_text('profile = "mine.toml"\n')
    assert choose.configured(session) == f"{place}/mine.toml"


def test_a_broken_configuration_is_a_usage_error(session: Session, place: Path) -> None:
    """gpuctl.toml that is no TOML is named."""
    (place / "gpuctl.toml").write_text("profile")

    with pytest.raises(UsageError, match=r"gpuctl\.toml"):
        choose.configured(session)


def test_what_was_applied(session: Session, place: Path) -> None:
    """Without a name or a configuration, the profile applied before is meant."""
    profile = compose.resolved(session, choose.load(session, "a6000x2"))
    bring_up.apply(session, profile)

    assert choose.chosen(session, None) == profile
    assert (place / "applied.json").stat().st_mode & 0o777 == 0o600


def test_nothing_was_applied(session: Session) -> None:
    """What needs an applied profile says how to apply one."""
    with pytest.raises(NotFound, match="no profile is applied") as caught:
        choose.applied(session)

    assert "gpuctl up PROFILE" in caught.value.hint


def test_a_simulated_host_has_its_own_profile(place: Path) -> None:
    """`--simulate p106x8` alone runs the profile of that name."""
    assert choose.default(Session(environment={}, simulate="p106x8")) == "p106x8"


def test_overrides_of_the_environment_are_applied(session: Session) -> None:
    """POLL_INTERVAL stands above the profile."""
    own = Session(environment={**session.environment, "POLL_INTERVAL": "7"})

    assert choose.load(own, "p106x8").watchdog.interval_seconds == 7.0
