"""
What runs in the process that holds NVML, and nothing else: it may be killed at any time.

It imports nothing else of gpuctl, so that it stays small: a sick GPU leaves it behind in the
kernel, where nothing can end it. A line on stdin asks for every GPU, answered by a line of JSON on
stdout; an Xid is told by a line of its own, whenever it comes.
"""
