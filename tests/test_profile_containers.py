"""What a container is given: mistakes in it, with the very words the operator gets."""

from __future__ import annotations

import pytest

from tests.mistakes import CHAT, HEAD, mistakes


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        pytest.param(
            'memory = "1m"',
            "memory: 1 MiB is below 6 MiB, the least that Docker takes",
            'write it as "1536m" or "2g"',
            id="memory-below-dockers-least",
        ),
        pytest.param(
            'memory_swap = "1g"',
            "memory_swap: memory is missing: Docker takes memory_swap only beside it",
            'add memory = "…"',
            id="swap-without-memory",
        ),
        pytest.param(
            'mounts = ["./models:/models"]',
            'mounts[0]: "./models" is neither an absolute path nor a volume',
            "write the whole path, from /",
            id="relative-mount",
        ),
        pytest.param(
            'mounts = ["models"]',
            'mounts[0]: "models" is not a mount',
            'write "source:/target" or "…:ro"',
            id="mount-without-target",
        ),
        pytest.param(
            'mounts = ["a:/../b"]',
            'mounts[0]: "/../b" is not a path inside the container',
            "begin it with /",
            id="mount-outside",
        ),
        pytest.param(
            'mounts = ["a:/b", "c:/b/"]',
            'mounts[1]: "/b/" is mounted twice',
            "give each mount a target of its own",
            id="mount-twice",
        ),
        pytest.param(
            "ulimits = { stack = [2, 1] }",
            "ulimits: stack: the soft limit 2 is above the hard limit 1",
            "write a number, [soft, hard], or -1 for unlimited",
            id="soft-above-hard",
        ),
        pytest.param(
            "ulimits = { stack = true }",
            "ulimits: stack: true is not a limit",
            "write a number, [soft, hard], or -1 for unlimited",
            id="bad-ulimit",
        ),
        pytest.param(
            'cap_add = ["sys_nice"]',
            'cap_add[0]: "sys_nice" is not a capability',
            'write one as "IPC_LOCK"',
            id="bad-capability",
        ),
        pytest.param(
            'environment = { HF_TOKEN = "hf_abc" }',
            "environment.HF_TOKEN: looks like a secret, and a profile is no place for one",
            'write HF_TOKEN = { file = "/path" }: the file is read at every start',
            id="secret-inline",
        ),
        pytest.param(
            "environment = { WORKERS = 4 }",
            "environment.WORKERS: the value is not a text",
            'put it in quotes, or write { file = "/path" }',
            id="number-in-the-environment",
        ),
        pytest.param(
            'environment = { HF_TOKEN = { file = "token" } }',
            "environment.HF_TOKEN: the file is not an absolute path",
            'write { file = "/etc/gpuctl/token" }',
            id="relative-secret-file",
        ),
        pytest.param(
            'environment = { "A B" = "1" }',
            'environment."A B": "A B" cannot name a variable',
            "use letters, digits and _",
            id="bad-variable-name",
        ),
        pytest.param(
            "log = { max_file = 3 }",
            "log.max_file: unknown key",
            "did you mean max_files?",
            id="unknown-key-inside",
        ),
        pytest.param(
            "docker_health = { retries = 3 }",
            "docker_health: test is missing",
            "add test = …",
            id="missing-key-inside",
        ),
        pytest.param(
            'docker_health = { test = ["curl"] }',
            "docker_health.test: ['curl'] is not a test",
            'write ["CMD", "curl", …] or ["CMD-SHELL", …]',
            id="bad-docker-test",
        ),
    ],
)
def test_what_no_container_can_be_given(line: str, message: str, hint: str) -> None:
    """The message has file, line, key path and what is wrong; the hint says what to do."""
    assert mistakes(f"{HEAD}{CHAT}{line}\n") == [(f"p.toml:10: workloads.chat.{message}", hint)]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param(
            HEAD + 'runtime = "docker"\n' + CHAT,
            "p.toml:7: workloads.chat: image is missing, and llama.cpp needs one on Docker",
            'add image = "…"',
            id="no-image-on-docker",
        ),
        pytest.param(
            HEAD + CHAT + 'memory = "2g"\nmemory_swap = "1g"\n',
            "p.toml:11: workloads.chat.memory_swap: 1 GiB is less than memory (2 GiB)",
            "it counts RAM and swap together: write memory or more",
            id="swap-below-memory",
        ),
    ],
)
def test_what_a_container_lacks(text: str, message: str, hint: str) -> None:
    """Keys that need one another are told together."""
    assert mistakes(text) == [(message, hint)]


def test_a_secret_is_found_beside_another_mistake_and_never_shown() -> None:
    """The value of a variable appears in no message, not even in that of its neighbour."""
    found = mistakes(f'{HEAD}{CHAT}environment = {{ A = 1, DB_PASSWORD = "hunter2" }}\n')
    assert [message.partition(": ")[2] for message, _ in found] == [
        "workloads.chat.environment.A: the value is not a text",
        "workloads.chat.environment.DB_PASSWORD: looks like a secret, and a profile is no place"
        " for one",
    ]
    assert "hunter2" not in str(found)
