"""
llama.cpp's server as gpuctl runs it, without the copies of its state that it keeps in host RAM.

Of a model that cannot go back (a window, a recurrent state) it keeps checkpoints beside the cache,
which on the CPU would be counted with it; on a GPU they never are in VRAM.
"""

from __future__ import annotations

import signal
import sys

import xllamacpp

from gpuctl import embedded


def main() -> None:
    flags = embedded.parser().parse_args(sys.argv[1:])
    parameters = embedded._parameters(xllamacpp, flags)
    parameters.n_ctx_checkpoints = 0
    _server = xllamacpp.Server(parameters)
    signal.pause()


if __name__ == "__main__":
    main()
