"""Functions and classes of a user's own Python file, which runs in this process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from minimind.errors import UserError
from minimind.util.suggest import did_you_mean


def load_name(spec: str, setting: str) -> Callable[..., Any]:
    """What `FILE.py:NAME` names. UserError, which says the setting, where there is no such thing."""
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{setting}: {spec} names nothing; give FILE.py:NAME, a Python file and a name in it")
    try:
        module = _load(path.resolve(), path.stat().st_mtime_ns)
    except Exception as error:
        raise UserError(f"{setting}: {file} cannot be run: {type(error).__name__}: {error}") from error
    known = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    if name not in known:
        otherwise = f"it has {', '.join(known) or 'none'}"
        raise UserError(f"{setting}: {file} has no {name}; {did_you_mean(name, known, otherwise)}")
    return known[name]


@lru_cache
def _load(path: Path, changed: int) -> ModuleType:
    """Run the file, once for all that is named in it and as long as it does not change."""
    name = f"user_code.{path.stem}"  # a file may be called as a module that others import
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # what lies beside it may be imported
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
