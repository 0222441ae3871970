"""Every key and list item of a TOML text is found on its line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.profile.lines import line_of, locate, with_lines

TEXT = '''\
# a comment = "with a key"
top = 1
dotted.key.here = 2
"quoted \\u00e9" . 'literal.key' = 3

[table]  # [not.a.table]
inline = { a = 1, b.c = [1,
  2] }
list = [
  "one", # two = 2
  { deep = [3] },
]
text = """
[not.a.table]
key = "in a text" \\"""
"""
raw = \'\'\'
x = ']'\'\'\'
after = 'it'
[table.inner]
z = 2020-01-01 00:00:00
[[many]]
a = 1
[many.sub]
b = 1
[[many]]
a = 2
[[many.nested]]
c = 3
'''


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of everything in a parsed document."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(item, (*path, key))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("dotted",), 3),
        (("dotted", "key", "here"), 3),
        (("quoted é", "literal.key"), 4),
        (("table",), 6),
        (("table", "inline", "b", "c", 0), 7),
        (("table", "inline", "b", "c", 1), 8),
        (("table", "list"), 9),
        (("table", "list", 1, "deep", 0), 11),
        (("table", "text"), 13),
        (("table", "raw"), 17),
        (("table", "after"), 19),
        (("table", "inner", "z"), 21),
        (("many",), 22),
        (("many", 0, "sub", "b"), 25),
        (("many", 1, "a"), 27),
        (("many", 1, "nested", 0, "c"), 29),
    ],
)
def test_a_key_is_found_on_its_line(path: tuple[str | int, ...], line: int) -> None:
    """Dotted, quoted, inline and repeated tables, texts and comments do not mislead it."""
    assert locate(TEXT)[path] == line


def test_everything_in_a_document_has_a_line() -> None:
    """No key, table or list item is left out, and none is made up."""
    assert set(locate(TEXT)) == set(paths(tomllib.loads(TEXT)))


def test_what_was_not_written_is_placed_at_its_table() -> None:
    """A missing key is shown where it belongs; a missing table at the top."""
    lines = locate(TEXT)
    assert line_of(lines, ("table", "inner", "missing")) == 20
    assert line_of(lines, ("missing", "key")) == 1


def test_carriage_returns_do_not_count_twice() -> None:
    """A file from Windows has the same lines."""
    assert locate("a = 1\r\n\r\nb = 2\r\n") == {("a",): 1, ("b",): 3}


VALUES = st.recursive(
    st.sampled_from(["1", '"a]}#"', "'{['", '"""x\ny"""', "'''''\n'''", "true", "0.5"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=3).map(
            lambda items: f"{{{', '.join(f'k{i} = {item}' for i, item in enumerate(items))}}}"
        )
    ),
    max_leaves=6,
)


KEYS = st.sampled_from(["a{}", "b.c{}", '"d e{}"', "[t{}]\nf", "[[m]]\ng{}"])


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6))
def test_every_valid_document_is_covered(pairs: list[tuple[str, str]]) -> None:
    """Whatever parses has a line for all that is in it."""
    text = "".join(f"{key.format(n)} = {value}\n" for n, (key, value) in enumerate(pairs))
    assert set(locate(text)) == set(paths(tomllib.loads(text)))


@given(st.text(alphabet="[]{}=.,\"'# \nab\\", max_size=60))
def test_no_text_whatever_stops_it(text: str) -> None:
    """It ends and raises nothing, valid or not."""
    assert all(1 <= line <= text.count("\n") + 1 for line in locate(text).values())


def test_what_a_plan_finds_gets_its_line() -> None:
    """A message that names a key is told where it stands; any other stays as it is."""
    text = "schema = 1\n[workloads.chat]\ngpus = [9]\n"
    message = "p: workloads.chat.gpus: no\np: workloads.chat.port: no\np: GPU 3: full\nother"

    assert with_lines(text, "p", message).splitlines() == [
        "p:3: workloads.chat.gpus: no",
        "p:2: workloads.chat.port: no",
        "p: GPU 3: full",
        "other",
    ]
