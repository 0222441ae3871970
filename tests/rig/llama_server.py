"""
The real llama.cpp with the model of the tests, as a process, and with a chat template that has
tools: that of the model knows none, so llama.cpp would ignore them.

As a program it takes the flags of `gpuctl.embedded`, and adds the template. The model is small: it
calls a function where the conversation shows it how.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from gpuctl import embedded
from tests.rig.http import free_port, get
from tests.rig.images import REPOSITORY
from tests.rig.waiting import wait_for

MODEL = REPOSITORY / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
LOAD_SECONDS = 60.0

# ChatML, and the calls of the Hermes family, from which llama.cpp derives the grammar that a call
# is held to and how it is told from text.
TEMPLATE = """\
{%- if tools -%}
{{ '<|im_start|>system\\n' }}
{%- for tool in tools -%}
{{ tool | tojson + '\\n' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] -%}
{{ '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""


class LlamaServer:
    """A context manager; `ready` waits until the model is loaded."""

    def __init__(self, alias: str, *flags: str, log: Path | None = None) -> None:
        self.alias = alias
        self.port = free_port()
        self._flags = flags
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LlamaServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        # One thread: two engines that wait for each other's turn are slower than one on each core.
        flags = ("-m", str(MODEL), "-a", self.alias, "--port", str(self.port), "-t", "1")
        rest = ("--cache-ram", "0", "--metrics", "--offline", *self._flags)
        with open(self._log or "/dev/null", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.rig.llama_server", *flags, *rest],
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )

    def ready(self) -> None:
        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.alias} has ended"
            answer = get(self.port, "/health", 2.0)
            return answer is not None and answer[0] == 200

        wait_for(answers, f"{self.alias} to load", LOAD_SECONDS)

    def kill(self) -> float:
        """Kill it; return when, in monotonic seconds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        return time.monotonic()


def main() -> None:
    import xllamacpp

    flags = embedded.parser().parse_args(sys.argv[1:])
    parameters = embedded._parameters(xllamacpp, flags)
    parameters.chat_template = TEMPLATE
    _server = xllamacpp.Server(parameters)
    signal.pause()


if __name__ == "__main__":
    main()
