"""Files that are no profile: each ends in words for the operator, none in a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl import profile
from gpuctl.errors import NotFound, ProfileError
from gpuctl.plugin import load_engines

ENGINES = load_engines()
BAD = Path(__file__).parent / "data" / "profiles" / "bad"
GOOD = profile.shipped()["p106x8"].read_text()

#: What each file is wrong about, as its first line of message has it.
MALFORMED = {
    "wrong-type": 'port: "8081" is not a whole number',
    "unknown-key": "prot: unknown key",
    "duplicate-port": "port: 8085 to 8092 overlaps workloads.chat (8081 to 8088)",
    "gpu-9-of-8": "gpus: GPU 9 is not on this host, which has 0 to 7",
    "overlapping-groups": "gpus: GPU 1 is named twice",
    "negative-memory": "memory: -1 is negative",
    "bad-unit": 'memory: "1536x" is not a size',
    "missing-model": "model is missing, and llama.cpp needs one",
    "tensor-parallel-3-of-2": "gpus: GPU 2 is not on this host, which has 0 to 1",
    "empty": "the file is empty",
    "binary": "is not UTF-8 text",
    "nul-byte": "a NUL byte: this is not text",
    "not-toml": "not TOML: ",
    "unclosed-table": "not TOML: ",
    "comment-only": "schema is missing",
    "no-workload": "there is no workload",
    "other-schema": "schema: 3 is not a format this gpuctl knows",
    "unknown-engine": 'engine: there is no engine "vlm"',
    "inline-secret": "looks like a secret",
    "swap-below-memory": "memory_swap: 1 GiB is less than memory (2 GiB)",
    "replica-name": "ends as the name of a replica does",
    "nested-too-deeply": "not TOML: ",
    "endless-number": "context: that number is more than 2147483647",
    "list-for-table": "workloads: [1, 2] is not a table",
}


def refusal(path: Path) -> str:
    with pytest.raises(ProfileError) as caught:
        profile.load(path, engines=ENGINES)
    assert caught.value.exit_code == 2
    assert all(hint for _, hint in caught.value.mistakes)
    return str(caught.value)


def test_every_malformed_file_is_expected() -> None:
    """There are more than twenty, and each has its message below."""
    assert {path.stem for path in BAD.glob("*.toml")} == set(MALFORMED)


@pytest.mark.parametrize(("name", "words"), MALFORMED.items(), ids=MALFORMED)
def test_a_malformed_file_is_refused_in_words(name: str, words: str) -> None:
    """The message names the file and says what is wrong; every mistake has a hint."""
    message = refusal(BAD / f"{name}.toml")
    assert message.startswith(f"{BAD}/{name}.toml")
    assert words in message


def test_a_missing_file_suggests_the_nearest_shipped_profile(tmp_path: Path) -> None:
    """The name was probably meant to be a shipped one."""
    with pytest.raises(ProfileError) as caught:
        profile.load(tmp_path / "p106x9.toml", engines=ENGINES)
    assert caught.value.mistakes == (
        (f"{tmp_path}/p106x9.toml: no such file", "did you mean p106x8?"),
    )


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A profile is a file."""
    assert refusal(tmp_path) == f"{tmp_path}: is a directory"


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """Who may not read it is told so; a path through a file cannot be read by root either."""
    path = tmp_path / "p.toml"
    path.write_text(GOOD)
    path.chmod(0)
    expected = f"{path}: may not be read by this user"
    if os.geteuid() == 0:
        path, expected = path / "p.toml", f"{path}/p.toml: cannot be read: Not a directory"
    assert refusal(path) == expected


def test_a_file_that_never_ends_is_refused() -> None:
    """A device is no file, and none of it is read."""
    assert refusal(Path("/dev/zero")) == "/dev/zero: is a pipe or a device, no file"


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """A file is read no further than a profile could be long."""
    path = tmp_path / "long.toml"
    path.write_bytes(b"#" * (1024**2 + 1))
    assert refusal(path) == f"{path}: is over 1 MiB: that is no profile"


def test_a_path_that_no_file_can_have_is_refused() -> None:
    """Not even a path is taken on trust."""
    assert "cannot be read" in refusal(Path("a\x00b.toml"))


def test_a_file_that_others_may_write_is_doubtful_but_taken(tmp_path: Path) -> None:
    """Whoever writes the profile decides what runs, so it is said; it is no mistake."""
    path = tmp_path / "p.toml"
    path.write_text(GOOD)
    path.chmod(0o666)
    message = f"{path}: may be written by its group and everyone, who then decide what runs here"
    assert profile.warnings(path) == ((message, f"run: chmod go-w {path}"),)
    assert profile.load(path, engines=ENGINES).host.name == "p106x8"
    path.chmod(0o644)
    assert profile.warnings(path) == ()
    assert profile.warnings(tmp_path / "absent") == ()


def test_a_name_is_a_shipped_profile_and_a_path_a_file(tmp_path: Path) -> None:
    """What has a slash or ends in .toml is a path, whether it is there or not."""
    assert profile.find("a100x8") == profile.shipped()["a100x8"]
    assert profile.find("./a100x8") == Path("a100x8")
    assert profile.find("mine.toml") == Path("mine.toml")
    with pytest.raises(NotFound) as caught:
        profile.find("p106")
    assert caught.value.hint == "did you mean p106x8? A path needs a / or .toml."
    with pytest.raises(NotFound) as caught:
        profile.find("mine")
    assert caught.value.hint.endswith(", rtx3090. A path needs a / or .toml.")


#: Of every table, and one that is of none.
KEYS = sorted(
    {"chat", *(key for table in profile.schema()["$defs"].values() for key in table["properties"])}
)
MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(GOOD)),
        st.integers(0, 12),
        st.sampled_from(
            [*"[]{}=\"'.,#\n 019-:x", "[[", '"""', "inf", "true", "[host]\n", "\x00", "é"]
        )
        | st.just(""),
    ),
    min_size=1,
    max_size=4,
)


def refusals(text: str) -> list[str]:
    """Return what a profile is refused for, nothing where it is taken."""
    try:
        profile.loads(text, "p.toml", engines=ENGINES)
    except ProfileError as error:
        return [message for message, _ in error.mistakes] or ["refused without a word"]
    return []


@settings(deadline=None, max_examples=150)
@given(MUTATIONS)
def test_a_damaged_profile_is_taken_or_refused_in_words(damage: list[tuple[int, int, str]]) -> None:
    """Nothing but a ProfileError ever comes of a text, and each mistake names the file."""
    text = GOOD
    for place, length, instead in damage:
        text = text[:place] + instead + text[place + length :]
    assert all(refusal.startswith("p.toml:") for refusal in refusals(text))


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(["host", "watchdog", "gateway", "workloads", "workloads.chat"]),
    st.sampled_from(KEYS),
    st.sampled_from(
        ["1", "-1", "1e400", "true", '""', '"x"', "[]", "[[]]", "[[[1]]]", "{}", "{ a = 1 }",
         "[{}]", "2020-01-01", "[1, 'a', {}]", "0x7fffffffffffffffff", "nan", '["a:b:c:d"]']
    ),
)  # fmt: skip
def test_any_value_under_any_key_is_taken_or_refused_in_words(
    table: str, key: str, value: str
) -> None:
    """Whatever type stands wherever, the tables and the rules between them hold."""
    text = f"schema = 1\n{table}.{key} = {value}\n"
    assert all(refusal.startswith("p.toml:") for refusal in refusals(text))
