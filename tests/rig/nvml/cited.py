"""The fields of `nvidia-smi` that the child's docstrings cite as the source of what it reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from gpuctl.adapters.nvml import child

MODULES = sorted(Path(child.__file__).parent.glob("*.py"))


def docstrings(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]


def cited(path: Path) -> set[tuple[str, str]]:
    """Return (query, field) of every citation."""
    found = set()
    for text in docstrings(path):
        for query, fields in re.findall(r"`nvidia-smi --(query-[a-z-]+)=([^`]+)`", text):
            found |= {(query, field) for field in re.split(r",\s*", fields)}
    return found
