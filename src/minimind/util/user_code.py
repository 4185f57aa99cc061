"""Functions and classes of a user's own Python file, which runs in this process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.util.suggest import did_you_mean


def load_name(spec: str, setting: str) -> Callable[..., Any]:
    """What `FILE.py:NAME` names. UserError, which says the setting, where there is no such thing."""
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{setting}: {spec} names nothing; give FILE.py:NAME, a Python file and a name in it")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(path.parent.resolve()))  # what lies beside it may be imported
    sys.modules[path.stem] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{setting}: {file} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    known = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    if name not in known:
        otherwise = f"it has {', '.join(known) or 'none'}"
        raise UserError(f"{setting}: {file} has no {name}; {did_you_mean(name, known, otherwise)}")
    return known[name]
