"""Keys and values: every kind of mistake, with the very words the operator gets."""

from __future__ import annotations

import pytest

from tests.mistakes import BYTES_HINT, CHAT, HEAD, SECONDS_HINT, mistakes


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        pytest.param(
            "prot = 1", "prot: unknown key", "did you mean port?", id="unknown-key-with-a-near-one"
        ),
        pytest.param(
            'engin."x" = 1', "engin: unknown key", "did you mean engine?", id="unknown-dotted-key"
        ),
        pytest.param(
            "image = 5", "image: 5 is not a text", "put it in quotes", id="number-for-text"
        ),
        pytest.param(
            'context = "4096"',
            'context: "4096" is not a whole number',
            "write digits, without quotes or a point",
            id="text-for-number",
        ),
        pytest.param(
            "context = 40.5",
            "context: 40.5 is not a whole number",
            "write digits, without quotes or a point",
            id="fraction-for-number",
        ),
        pytest.param(
            "context = true",
            "context: true is not a whole number",
            "write digits, without quotes or a point",
            id="boolean-for-number",
        ),
        pytest.param(
            'args = "--verbose"',
            'args: "--verbose" is not a list',
            "put it in brackets: [ … ]",
            id="text-for-list",
        ),
        pytest.param(
            'health = "/health"',
            'health: "/health" is not a table',
            "write it as { key = value }",
            id="text-for-table",
        ),
        pytest.param(
            "[[workloads.chat.health]]",
            "health: [{}] is not a table",
            "write [workloads.chat.health], in single brackets",
            id="tables-for-table",
        ),
        pytest.param(
            "parallel = 0", "parallel: 0 is less than 1", "write 1 or more", id="zero-slots"
        ),
        pytest.param(
            'kind = "embeding"',
            'kind: "embeding" is not one of chat, embedding, rerank, transcription, other',
            "did you mean embedding?",
            id="unknown-word",
        ),
        pytest.param('memory = "12x"', 'memory: "12x" is not a size', BYTES_HINT, id="bad-unit"),
        pytest.param("memory = -5", "memory: -5 is negative", BYTES_HINT, id="negative-memory"),
        pytest.param(
            "memory = 0",
            "memory: 0 is not enough",
            "write more than 0, or leave the key out",
            id="no-memory",
        ),
        pytest.param('startup = "5"', 'startup: "5" is not a duration', SECONDS_HINT, id="no-unit"),
        pytest.param(
            "startup = inf", "startup: inf is not a duration", SECONDS_HINT, id="infinite"
        ),
        pytest.param(
            "options = { batsh = 1 }",
            "options.batsh: unknown key",
            "did you mean batch?",
            id="unknown-option",
        ),
        pytest.param(
            "options = { batch = 0 }",
            "options.batch: 0 is not 1 or more",
            "see the options of engine llama.cpp",
            id="option-the-engine-refuses",
        ),
        pytest.param(
            "options = { tensor_parallel = 3 }",
            "options.tensor_parallel: unknown key",
            "it follows from the group: gpus = [[0, 1]] is one replica on two GPUs",
            id="tensor-parallel-as-an-option",
        ),
        pytest.param(
            "replicas_per_gpu = 9000",
            "port: 63000 replicas would need ports up to 71080",
            "begin lower: 65535 is last",
            id="ports-beyond-the-last",
        ),
    ],
)
def test_a_mistake_in_a_workload_is_told_in_full(line: str, message: str, hint: str) -> None:
    """The message has file, line, key path and what is wrong; the hint says what to do."""
    number = 9 if message.startswith("port:") else 10
    assert mistakes(f"{HEAD}{CHAT}{line}\n") == [
        (f"p.toml:{number}: workloads.chat.{message}", hint)
    ]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param(
            HEAD + CHAT + '[watchdog]\nvram = "strikt"\n',
            'p.toml:11: watchdog.vram: "strikt" is not one of corroborate, strict, observe',
            "did you mean strict?",
            id="unknown-vram-mode",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\nbackoff = [0,\n  "x"]\n',
            'p.toml:12: watchdog.backoff[1]: "x" is not a duration',
            SECONDS_HINT,
            id="one-of-a-list-on-its-own-line",
        ),
        pytest.param(
            HEAD + CHAT + "[watchdog]\nbackoff = []\n",
            "p.toml:11: watchdog.backoff: [] is not enough",
            "name at least one, or leave the key out",
            id="empty-backoff",
        ),
        pytest.param(
            HEAD + CHAT + "[watchdog]\nvram_ratio = 10\n",
            "p.toml:11: watchdog.vram_ratio: 10 is not between 0 and 1",
            'write a ratio as "90%" or as 0.9',
            id="percent-as-a-number",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\ninterval = "40s"\n',
            "p.toml:11: watchdog.interval: 40s reaches tick_gap (30s): every failure streak would"
            " be forgotten",
            "set tick_gap to several intervals",
            id="interval-above-the-tick-gap",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\nstartup_limit = "1m"\n',
            "p.toml:11: watchdog.startup_limit: 60s is less than startup (600s)",
            "set it to startup or more",
            id="startup-limit-below-startup",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\npressure_high_ratio = "40%"\n',
            "p.toml:11: watchdog.pressure_high_ratio: 0.4 does not lie above"
            " pressure_normal_ratio (0.5)",
            "set it to more than pressure_normal_ratio",
            id="levels-out-of-order",
        ),
        pytest.param(
            HEAD + CHAT + "[watchdog]\nheat_critical_celsius = 80\n",
            "p.toml:11: watchdog.heat_critical_celsius: 80 does not lie above"
            " heat_throttling_celsius (80)",
            "set it to more than heat_throttling_celsius",
            id="critical-where-throttling-begins",
        ),
    ],
)
def test_a_mistake_in_the_watchdogs_settings_is_told_in_full(
    text: str, message: str, hint: str
) -> None:
    """A value by itself, in a list, or against another."""
    assert mistakes(text) == [(message, hint)]
