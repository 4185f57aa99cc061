"""The rooms of the house from bottom to top, and that every import runs downwards: read this list as the map."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "minimind"

# A room may import what stands above it in this list, and itself.
ROOMS = {
    "errors": "what a user is told in one sentence",
    "util": "whole files, JSON, values by type, nearest names, progress bars",
    "config": "dataclass <-> YAML <-> flags",
    "hardware": "devices, number types, speed and memory of this machine",
    "tokenizer": "text and messages <-> token ids",
    "model": "the transformer, its configuration, and its files in Hugging Face's layout",
    "world": "the embedded corpus: texts, conversations, questions",
    "data/sources": "files of any container and schema -> documents",
    "data/shards": "documents -> token columns on disk, once",
    "data/batches": "token columns -> packed batches",
    "losses": "from logits and targets to a number",
    "optim": "optimizers, parameter groups, schedules",
    "presets": "named model shapes",
    "stage_options": "what each stage can be told",
    "recipe": "everything that decides a training",
    "plan": "derived settings, FLOPs, memory, time: before anything is trained",
    "runs": "what trainings wrote: read, compared, drawn",
    "tools": "the tools that a model may call, and their sandbox",
    "infer": "token ids in, token ids out; conversations",
    "interop": "other programs' models: GGUF, Ollama, the hub, the public MiniMind's weights",
    "eval": "how good a model is",
    "train": "the training loop, one step, checkpoints, recovery",
    "rl": "rollouts, rewards, advantages",
    "stages": "pretrain, sft, dpo, …: data, objective and defaults of each",
    "api": "`from minimind import Model`",
    "data/distill": "a teacher's answers -> conversations and pairs to train on",
    "bench": "what this machine can do",
    "quickstart": "from nothing to a model that talks",
    "adapt_report": "what a model learned of a domain, and what it forgot",
    "adapt": "from a folder of texts and a FAQ to an expert",
    "serve": "an OpenAI-compatible server",
    "web": "pages in the browser",
    "commands": "one file for each command",
    "cli": "the table of commands",
}
FACE = ("minimind", "minimind.__main__")  # the package's own two files lead to the rooms and belong to none


class Import(NamedTuple):
    """One import of a module of ours by another, and where it stands."""

    importer: str
    imported: str
    where: str


def modules() -> dict[str, Path]:
    """Every file of the package by its module's name."""
    names = {}
    for path in SOURCES.rglob("*.py"):
        parts = path.relative_to(SOURCES.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported_names(path: Path) -> Iterator[tuple[str, int]]:
    """What a file imports, also inside functions and for type checkers alone; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def imports() -> list[Import]:
    """All imports of the package's modules by one another; a name in a module counts as that module."""
    known, result = modules(), []
    for importer, path in known.items():
        for name, line in imported_names(path):
            imported = name if name in known else name.rpartition(".")[0]
            if imported in known and imported != importer:
                result.append(Import(importer, imported, f"{path.relative_to(ROOT)}:{line}"))
    return result


def room(module: str) -> str:
    """The room that a module lies in."""
    path = module.removeprefix("minimind.").replace(".", "/")
    rooms = [name for name in ROOMS if f"{path}/".startswith(f"{name}/")]
    assert rooms, f"{module} lies in no room; enter its room in ROOMS"
    return rooms[0]


def test_imports_run_downwards() -> None:
    heights = {name: height for height, name in enumerate(ROOMS)}
    upwards = [
        f"{where}: {room(importer)} imports {room(imported)}, which lies above it ({imported})"
        for importer, imported, where in imports()
        if not {importer, imported} & {*FACE} and heights[room(imported)] > heights[room(importer)]
    ]
    assert not upwards, "\n".join(upwards)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Files that import nothing, or that nothing imports, are left out until none is; the rest make circles."""
    left, before = set(imports()), None
    while left != before:
        before = left
        importers, imported = {one.importer for one in left}, {one.imported for one in left}
        left = {one for one in left if one.imported in importers and one.importer in imported}
    circles = [f"{one.where}: {one.importer} imports {one.imported}" for one in sorted(left)]
    assert not circles, "a circle among:\n" + "\n".join(circles)


@pytest.mark.parametrize("name", ROOMS)
def test_every_room_is_there(name: str) -> None:
    assert (SOURCES / name).is_dir() or (SOURCES / f"{name}.py").is_file()


def test_benchmarks_import_no_tests() -> None:
    names = [name for path in (ROOT / "benchmarks").rglob("*.py") for name, _ in imported_names(path)]
    assert "benchmarks.results.table" in names
    assert not [name for name in names if name.split(".")[0] == "tests"]
