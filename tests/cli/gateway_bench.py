"""A program that stands for the gateway, where only how it is kept and ended is tested."""

from __future__ import annotations

import shutil
import sys

#: One that every user may run: root's own is often in /root.
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable

#: Takes the lock, tells of itself, and ends at SIGTERM; as quick as Python is.
PROGRAM = (
    PYTHON,
    "-S",
    "-c",
    """
import fcntl, json, os, signal, sys, time
place = os.environ["GPUCTL_RUNTIME_DIR"] + "-gateway"
lock = os.open(place + "/gateway.lock", os.O_RDWR | os.O_CREAT, 0o640)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
told = {"schema": 1, "at": time.time(), "pid": os.getpid(), "listen": "127.0.0.1:4000"}
with open(place + "/gateway.new", "w") as file:
    json.dump({**told, "in_flight": 3, "queued": 0}, file)
os.replace(place + "/gateway.new", place + "/gateway.json")
print("it listens", flush=True)
signal.pause()
""",
)
