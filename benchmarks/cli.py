"""
How long the commands that people wait for take, as ratios to a bare interpreter and to a peer.

`status` runs on a simulated host of 16 replicas, `supervisorctl status` on a supervisord with
eight programs, in turns in the same run. Goals: `status` piped at most 5 bare interpreters and 0.6
`supervisorctl status`; its table on a terminal at most 10; `--help` at most 20.
"""

from __future__ import annotations

import os
import pty
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROUNDS = 21
BIN = Path(sys.executable).parent
GPUCTL = str(BIN / "gpuctl")
SUPERVISOR = """\
[unix_http_server]
file={folder}/supervisor.sock
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/supervisor.sock
[program:sleep]
command=sleep 3600
numprocs=8
process_name=%(process_num)d
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "GPUCTL_STATE_DIR": f"{folder}/state",
            "GPUCTL_RUNTIME_DIR": f"{folder}/run",
            "GPUCTL_CONFIG_DIR": f"{folder}/conf",
            "GPUCTL_SIMULATE": "p106x8",
            "TERM": "xterm",
        }
        with supervised(environment), supervisord(folder) as control:
            return compared(environment, control)


def compared(environment: dict[str, str], control: list[str]) -> int:
    def run(*command: str) -> Callable[[], None]:
        return lambda: piped(command, environment)

    commands: dict[str, Callable[[], None]] = {
        "python -c pass": run(sys.executable, "-c", "pass"),
        "supervisorctl status": run(*control, "status"),
        "gpuctl status, piped": run(GPUCTL, "status"),
        "gpuctl status, terminal": lambda: on_terminal((GPUCTL, "status"), environment),
        "gpuctl --help": run(GPUCTL, "--help"),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS + 1):  # the first round writes the .pyc files
        for name, command in commands.items():
            began = time.perf_counter()
            command()
            times[name].append(time.perf_counter() - began)
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    bare, peer = median["python -c pass"], median["supervisorctl status"]
    goals = {
        "gpuctl status, piped": (5.0, 0.6),
        "gpuctl status, terminal": (10.0, None),
        "gpuctl --help": (20.0, None),
    }
    missed = 0
    print(f"{'command':26} {'ms':>7} {'× python':>9} {'goal':>5} {'× peer':>7} {'goal':>5}")
    for name, seconds in median.items():
        by_bare, by_peer = goals.get(name, (None, None))
        missed += bool(by_bare and seconds > by_bare * bare)
        missed += bool(by_peer and seconds > by_peer * peer)
        print(
            f"{name:26} {seconds * 1000:7.1f} {seconds / bare:9.2f} {by_bare or '':>5}"
            f" {seconds / peer:7.2f} {by_peer or '':>5}"
        )
    return int(missed > 0)


def piped(command: tuple[str, ...], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done


def on_terminal(command: tuple[str, ...], environment: dict[str, str]) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        while os.read(master, 65536):
            pass
    except OSError:
        pass  # the other side has closed
    os.close(master)
    assert process.wait() == 0


@contextmanager
def supervised(environment: dict[str, str]) -> Iterator[None]:
    """A daemon on a simulated host, its replicas ready at once."""
    profile = Path(environment["GPUCTL_STATE_DIR"]).parent / "p106x8.toml"
    shipped = Path(__file__).resolve().parents[1] / "profiles" / "p106x8.toml"
    fast = '[watchdog]\nload_spacing = "0s"\nloads_at_once = 0\n'
    profile.write_text(shipped.read_text().replace("[watchdog]\n", fast))
    subprocess.run([GPUCTL, "up", str(profile)], env=environment, capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run([GPUCTL, "down"], env=environment, capture_output=True, check=True)


@contextmanager
def supervisord(folder: Path) -> Iterator[list[str]]:
    settings = folder / "supervisord.conf"
    settings.write_text(SUPERVISOR.format(folder=folder))
    program = shutil.which("supervisord", path=str(BIN))
    assert program, "the peer is missing: pip install '.[bench]'"
    process = subprocess.Popen([program, "-n", "-c", str(settings)], stdout=subprocess.DEVNULL)
    control = [str(BIN / "supervisorctl"), "-c", str(settings)]
    try:
        for _ in range(100):
            if (
                subprocess.run([*control, "status"], capture_output=True, check=False).returncode
                == 0
            ):
                break
            time.sleep(0.1)
        yield control
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
