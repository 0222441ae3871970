"""Which profile a command means."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.cli import bring_up, choose, compose
from gpuctl.cli.session import Session
from gpuctl.errors import NotFound, ProfileError, UsageError


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


def test_overrides_are_told_and_stay_applied(
    session: Session, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands above the profile is said, recorded beside it, and there without the variable."""
    names = {"MAX_MODEL_LEN": "4096", "VLLM_USE_TRITON": "0", "HF_TOKEN": "hf_secret"}
    own = Session(environment={**session.environment, **names})
    profile = compose.resolved(own, choose.load(own, "a6000x2"))
    said = capsys.readouterr().err
    assert "environment: MAX_MODEL_LEN=4096 stands above the profile" in said
    assert "warning: environment: VLLM_USE_TRITON: vLLM knows no such variable" in said
    assert "hint: choose attention with attention_backend" in said

    bring_up.apply(own, profile)
    stored = (place / "applied.json").read_text()
    assert json.loads(stored)["overrides"] == {"MAX_MODEL_LEN": "4096"}
    assert "hf_secret" not in stored + said
    assert choose.chosen(session, None).workloads[0].context == 4096


def test_overrides_above_an_applied_profile(session: Session) -> None:
    """A command that means the applied profile takes the variables of its own environment."""
    bring_up.apply(session, compose.resolved(session, choose.load(session, "a6000x2")))
    own = Session(environment={**session.environment, "MAX_MODEL_LEN": "2048"})
    assert choose.chosen(own, None).workloads[0].context == 2048


@pytest.mark.parametrize(
    ("environment", "messages"),
    [
        pytest.param(
            {"HF_TOKEN_FILE": "/no/token"},
            ["MAX_NUM_SEQS: 'x' is not", "HF_TOKEN_FILE: /no/token does not exist"],
            id="missing",
        ),
        pytest.param(
            {"HF_TOKEN_FILE": "token"},
            ["MAX_NUM_SEQS: 'x' is not", "HF_TOKEN_FILE: 'token' is not an absolute path"],
            id="no path",
        ),
        pytest.param(
            {"HF_TOKEN_FILE": "/no/token", "GPUCTL_SIMULATE": "a6000x2"},
            ["MAX_NUM_SEQS: 'x' is not"],
            id="a simulated host has no files",
        ),
    ],
)
def test_mistakes_of_the_environment_are_told_with_the_files_that_are_missing(
    session: Session, place: Path, environment: dict[str, str], messages: list[str]
) -> None:
    """One round is enough to mend them all."""
    path = place / "mine.toml"
    path.write_text(
        'schema = 1\n[host]\nname = "h"\n'
        '[workloads.llm]\nengine = "vllm"\nimage = "i"\nmodel = "o/m"\nport = 8000\n'
    )
    simulate = environment.pop("GPUCTL_SIMULATE", "")
    mistaken = replace(
        session,
        environment={**session.environment, "MAX_NUM_SEQS": "x", **environment},
        simulate=simulate,
    )
    with pytest.raises(ProfileError) as caught:
        choose.load(mistaken, str(path))
    found = [message for message, _ in caught.value.mistakes]
    assert len(found) == len(messages)
    for message, begins in zip(found, messages, strict=True):
        assert message.startswith(f"environment: {begins}")
