"""
Model files: which of a repository are wanted, whether there is room, and their transfer.

`names` reads what an operator calls a model, `hub` asks what a repository has, `choice` says which
of it is meant, `transfer` brings one file, `cache` knows how the Hugging Face cache lies on a disk.
"""
