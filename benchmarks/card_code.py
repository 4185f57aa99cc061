"""Run the transformers lines of exported models' cards: in which version of transformers do they work?

    python -m venv old && old/bin/pip install torch "transformers==4.57.6"
    old/bin/python benchmarks/card_code.py EXPORT…

Each EXPORT is a directory that `minimind export hf` wrote. MiniMind itself need not be installed there.
"""

import contextlib
import io
import os
import re
import sys
from pathlib import Path

import transformers


def main(exports: list[str]) -> None:
    for export in map(Path, exports):
        code = re.findall(r"```python\n(.*?)```", (export / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
        said = io.StringIO()
        with contextlib.chdir(export.resolve().parent), contextlib.redirect_stdout(said):
            exec(code, {})
        print(f"transformers {transformers.__version__}, {export.name}: {said.getvalue()[:60]!r}")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1:])
