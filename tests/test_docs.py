"""The pages for users: both languages say the same, and what they name exists."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from minimind import cli, config
from minimind.data.sources.documents import Document, parse
from minimind.model.count import count_parameters
from minimind.presets import PRESETS
from minimind.recipe import Recipe

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "minimind"
NAMES = sorted(path.name for path in (ROOT / "docs" / "en").iterdir())
PAIRS = [(folder / "README.md", folder / "README.zh.md") for folder in (ROOT, ROOT / "examples")]
PAIRS += [(ROOT / "docs" / "en" / name, ROOT / "docs" / "zh" / name) for name in NAMES]
PAGES = [page for pair in PAIRS for page in pair]
SETTINGS = config.settings(Recipe)
SECTIONS = "|".join(sorted({key.partition(".")[0] for key in SETTINGS if "." in key}))
FILE_ENDING = r"\.(py|json|jsonl|yaml|md|html|svg|npy|txt|gguf)$"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
by_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(pair[0].relative_to(ROOT)))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks of one language."""
    return [code for name, code in FENCE.findall(read(page)) if name == language]


def prose(page: Path) -> str:
    return FENCE.sub("", read(page))


def spans(page: Path) -> list[str]:
    """What stands in `…` in the page's prose."""
    return [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", prose(page))]


def commands(page: Path) -> list[list[str]]:
    """The words after `minimind` of every command on the page, in code blocks and in prose."""
    lines = [line for code in blocks(page, "bash") for line in code.replace("\\\n", " ").splitlines()]
    lines += [span for span in spans(page) if span.startswith("minimind ")]
    found = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("&|;"):
                words.append(word)
                continue
            if words[:1] == ["minimind"]:
                found.append(words[1:])
            elif "-m" in words and words[words.index("-m") + 1] == "minimind":  # behind torchrun or python
                found.append(words[words.index("-m") + 2 :])
            words = []
    return found


@cache
def help_of(*words: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert cli.main([*words, "--help"]) == 0, f"there is no command minimind {' '.join(words)}"
    return shown.getvalue()


def help_for(command: list[str]) -> str:
    """The help of the command itself, or of its subcommand or stage."""
    verb, *rest = command
    takes_subcommand = verb == "train" or "COMMAND" in help_of(verb)
    return help_of(verb, rest[0]) if takes_subcommand and rest and not rest[0].startswith("-") else help_of(verb)


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", text))


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`: the page's headings, as GitHub turns them into addresses."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def passages(page: Path) -> list[str]:
    """The page's paragraphs, list items and table rows, one string each."""
    return re.split(r"\n\s*\n|\n(?=\||- |\d+\. )", prose(page))


def source_file(name: str) -> Path:
    """The file that a page calls `name`: below `src/minimind/` or the repository's root."""
    return SOURCE / name if (SOURCE / name).exists() else ROOT / name


@cache
def definitions(file: Path) -> set[str]:
    """What a Python file defines: `name` of functions, classes, constants and attributes, and `Class.name`."""

    def names(part: ast.AST) -> set[str]:
        nodes = list(ast.walk(part))
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
        variables = {node.id for node in stored if isinstance(node, ast.Name)}
        return defined | variables | {node.attr for node in stored if isinstance(node, ast.Attribute)}

    module = ast.parse(read(file))
    classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    return names(module) | {f"{one.name}.{name}" for one in classes for name in names(one)}


def identifiers(passage: str) -> set[str]:
    """What looks like a name in Python code among a passage's `…`: `CamelCase`, `name()` or `owner.name`."""
    found = re.findall(r"`([A-Z]\w+|\w+(?=\()|[A-Za-z_]\w*\.[A-Za-z_]\w*)(?:\([^`]*\))?`", passage)
    return {name for name in found if name not in SETTINGS and not re.search(FILE_ENDING, name)}


def is_defined(name: str, file: Path) -> bool:
    """`Class.name`, or a name in the module `module.name`, or an attribute of whatever `variable.name` is."""
    owner, _, last = name.rpartition(".")
    return name in definitions(file) or (owner.islower() and last in definitions(file))


@cache
def source_texts() -> list[str]:
    """Every text in the source, with … in the place of what is filled in."""

    def text(node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(text(value) for value in node.values)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "…"

    nodes = (node for file in SOURCE.rglob("*.py") for node in ast.walk(ast.parse(read(file))))
    return [text(node) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)]


def test_both_languages_have_the_same_pages() -> None:
    assert sorted(path.name for path in (ROOT / "docs" / "zh").iterdir()) == NAMES
    assert len(NAMES) >= 9


@by_pair
def test_both_languages_have_the_same_parts(pair: tuple[Path, Path]) -> None:
    english, chinese = pair
    assert FENCE.findall(read(chinese)) == FENCE.findall(read(english))
    for pattern in (r"^#+(?= )", r"<!-- .*? -->"):
        parts = [re.findall(pattern, prose(page), re.MULTILINE) for page in pair]
        assert parts[0] == parts[1], pattern


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in t]
    for target in targets:
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@by_page
def test_commands_and_their_options_exist(page: Path) -> None:
    for command in commands(page):
        named = {word.partition("=")[0] for word in command if word.startswith("--")}
        assert named <= {*flags(help_for(command)), "--version"}, command


@by_page
def test_options_and_settings_named_in_prose_exist(page: Path) -> None:
    known = set().union(*(flags(help_for(command)) for other in PAGES for command in commands(other)))
    options = {span.split()[0] for span in spans(page) if re.match(r"--[a-z]", span)}
    assert options <= known
    setting = rf"(?<![\w/.])(?:{SECTIONS})(?:\.\w+)+\b(?!\()"
    keys = {key for span in spans(page) for key in re.findall(setting, span)}
    assert keys <= set(SETTINGS)


@by_page
def test_source_files_named_exist(page: Path) -> None:
    named = {span for span in spans(page) if re.fullmatch(r"[\w/]+\.(py|jinja)", span)}
    assert not [name for name in named if not source_file(name).exists()]


@by_page
def test_names_stand_in_the_files_they_are_said_to_be_in(page: Path) -> None:
    """In a paragraph, list item or table row that names source files, names from the code stand in one of them."""
    for passage in passages(page):
        files = [source_file(name) for name in re.findall(r"`([\w/]+\.py)`", passage)]
        files = [file for file in files if file.exists()]
        missing = {name for name in identifiers(passage) if not any(is_defined(name, file) for file in files)}
        assert not (files and missing), passage


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ["troubleshooting.md", "import.md"])
def test_messages_quoted_are_the_programs_own(name: str, language: str) -> None:
    """What stands in `…` at the beginning of a table row, if it is a sentence."""
    page = ROOT / "docs" / language / name
    cells = re.findall(r"^\| (.*?) \|", prose(page), re.MULTILINE)
    quoted = {span.strip("… ") for cell in cells for span in re.findall(r"`([^`]+ [^`]+)`", cell)}
    quoted -= {"minimind: command not found"}  # the shell's
    assert not [message for message in quoted if not any(message in text for text in source_texts())]


@by_page
def test_code_blocks_can_be_used(page: Path, tmp_path: Path) -> None:
    for code in blocks(page, "yaml"):
        (tmp_path / "recipe.yaml").write_text(code, encoding="utf-8")
        config.load(Recipe, files=[tmp_path / "recipe.yaml"])
    for code in blocks(page, "jsonl"):
        for number, line in enumerate(code.splitlines(), start=1):
            item = parse(line.encode(), page.name, number, plain_text=False)
            assert isinstance(item, Document), item
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minimind"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_every_command_is_shown() -> None:
    assert {command[0] for page in PAGES for command in commands(page)} == set(cli.VERBS)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_setting_alias_and_preset_is_explained(language: str) -> None:
    training, model = (ROOT / "docs" / language / f"{name}.md" for name in ("training", "model"))
    explained = {*spans(training), *spans(model)}
    assert not set(SETTINGS) - explained
    assert not set(config.ALIASES) - explained
    for name, shape in PRESETS.items():
        assert f"| `{name}` | {count_parameters(shape)['total']:,} |" in read(model)


def test_the_two_commands_are_one_line_each() -> None:
    alone = blocks(ROOT / "README.md", "bash")
    assert "pip install -e . && minimind quickstart\n" in alone
    assert 'pip install -e ".[test]" && python -m pytest\n' in alone
