"""
The gateway: one OpenAI endpoint in front of all replicas, in a process of its own.

It reads status.json and writes gateway.json; it never asks Docker. A request passes in this order:
`downstream` (HTTP/1.1 of the client) → `exchange` (its life) → `admission`, `routing` and `gate`
(pure: which replica, and when) → `upstream` (HTTP/1.1 of the replica). `operator` is the rest.
"""
