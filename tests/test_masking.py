"""No secret that an operator wrote on a command line or in an environment is shown."""

from __future__ import annotations

import pytest

from gpuctl import masking

MASK = "********"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        pytest.param("--api-key sk-1 --port 80", f"--api-key {MASK} --port 80", id="llama.cpp-key"),
        pytest.param("--hf-token hf_1 -c 1", f"--hf-token {MASK} -c 1", id="llama.cpp-token"),
        pytest.param("-hft hf_1 -c 1", f"-hft {MASK} -c 1", id="llama.cpp-short"),
        pytest.param("--api-key=sk-1", f"--api-key={MASK}", id="vllm-key"),
        pytest.param("--hf-token=hf_1", f"--hf-token={MASK}", id="vllm-token"),
        pytest.param("--api_key sk-1", f"--api_key {MASK}", id="vllm-takes-underscores"),
        pytest.param("--api-key a b --dtype half", f"--api-key {MASK} {MASK} --dtype half", id="2"),
        pytest.param("--hf-token --port 80", "--hf-token --port 80", id="vllm-without-a-value"),
        pytest.param("--api-key -x -c 1", f"--api-key {MASK} -c 1", id="looks-like-a-flag"),
        pytest.param("--hf-api-token t", f"--hf-api-token {MASK}", id="text-embeddings-inference"),
        pytest.param("--api-key-file /k", "--api-key-file /k", id="a-file"),
        pytest.param("--api-key=", "--api-key=", id="empty"),
        pytest.param(
            "--tokenizer t --max-tokens 3", "--tokenizer t --max-tokens 3", id="no-secret"
        ),
        pytest.param("--api-key", "--api-key", id="the-last-word"),
    ],
)
def test_a_command_is_shown_without_its_secrets(words: str, shown: str) -> None:
    """A secret is hidden in the word after its flag and behind an equals sign."""
    assert masking.command(tuple(words.split())) == shown.split()


def test_a_shell_s_words_are_looked_into() -> None:
    """A whole command line in one word is no hiding place."""
    words = ("sh", "-c", "exec serve --api-key sk-1 --hf-token=hf_1 -c 1")

    assert masking.command(words)[2] == f"exec serve --api-key {MASK} --hf-token={MASK} -c 1"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param("argv: s --api-key sk-1 -c", f"argv: s --api-key {MASK} -c", id="a-command"),
        pytest.param("x '--api-key', 'sk-1'", f"x '--api-key', '{MASK}'", id="a-list-of-words"),
        pytest.param(
            "non-default args: {'api_key': ['sk-1', 'sk-2'], 'port': 1}",
            f"non-default args: {{'api_key': {MASK}, 'port': 1}}",
            id="vllm",
        ),
        pytest.param(
            "Namespace(api_key='sk-1', hf_token='hf_1', port=1)",
            f"Namespace(api_key={MASK}, hf_token={MASK}, port=1)",
            id="vllm-of-before",
        ),
        pytest.param('{"hf-token": "a b"}', f'{{"hf-token": {MASK}}}', id="json"),
        pytest.param("Namespace(api_key=None)", "Namespace(api_key=None)", id="not-set"),
        pytest.param("the api key is missing", "the api key is missing", id="prose"),
        pytest.param("use --hf-token --port 1", "use --hf-token --port 1", id="no-value"),
    ],
)
def test_a_line_of_text_is_shown_without_secrets(line: str, shown: str) -> None:
    """Engines print how they were started, and that is kept as evidence."""
    assert masking.text(line) == shown


def test_an_environment_is_shown_without_its_secrets() -> None:
    """A variable's name gives a secret away; an empty one hides nothing."""
    environment = {"HF_TOKEN": "a", "DB_PASSWORD": "b", "EMPTY_KEY": "", "HOME": "/root"}

    assert masking.environment(environment) == {
        "HF_TOKEN": MASK,
        "DB_PASSWORD": MASK,
        "EMPTY_KEY": "",
        "HOME": "/root",
    }
