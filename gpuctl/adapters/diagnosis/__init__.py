"""
What `gpuctl doctor` reads of a host, one file a source, each a function that returns its facts.

Nothing here changes anything. `/` is an argument, so that a test can write a host of its own.
"""

from gpuctl.adapters.diagnosis.containers import cdi, toolkit
from gpuctl.adapters.diagnosis.deadline import gather
from gpuctl.adapters.diagnosis.hardware import driver
from gpuctl.adapters.diagnosis.machine import system
from gpuctl.adapters.diagnosis.ports import ports
from gpuctl.adapters.diagnosis.service import Places, service
from gpuctl.adapters.diagnosis.storage import disks, files

__all__ = [
    "Places",
    "cdi",
    "disks",
    "driver",
    "files",
    "gather",
    "ports",
    "service",
    "system",
    "toolkit",
]
