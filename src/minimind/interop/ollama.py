"""A model as Ollama builds it: a GGUF file, and a Modelfile with chat template and parameters beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minimind.errors import UserError
from minimind.interop.gguf import export_gguf, sampling
from minimind.model.hf.config import read_config
from minimind.model.hf.weights import model_directory
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.template import default_template
from minimind.util.files import whole_directory

FILES = ("model.gguf", "Modelfile")
MARK = "# written by `minimind export ollama`"
NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""our name of a sampling parameter -> Ollama's"""


@dataclass
class ExportedOllama:
    """What was written."""

    bytes: int
    """size of the GGUF file"""
    notes: list[str]
    """what its user should know"""


def export_ollama(source: str | Path, out: str | Path, kind: str = "f16") -> ExportedOllama:
    """Write model.gguf (type `kind`, see export_gguf) and Modelfile into the directory `out`, whole or not at all.

    An earlier export in `out` is replaced. UserError for anything else there, and as in export_gguf.
    """
    source, out = model_directory(source), Path(out)
    check_replaceable(out)
    tokenizer = Tokenizer.load(source)
    with whole_directory(out.resolve()) as partial:
        done = export_gguf(source, partial / FILES[0], kind)
        (partial / FILES[1]).write_text(modelfile(source, tokenizer), encoding="utf-8")
    notes = list(done.notes)
    if tokenizer.chat_template != default_template():
        notes.append(
            "its chat template is not MiniMind's own, so the Modelfile has no TEMPLATE; see what Ollama takes "
            "instead with: ollama show NAME --template"
        )
    return ExportedOllama(done.bytes, notes)


def check_replaceable(out: Path) -> None:
    """UserError unless `out` is new, empty or an earlier export."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; give a directory as --out")
    names = sorted(path.name for path in out.iterdir())
    if foreign := [name for name in names if name not in FILES]:
        raise UserError(f"{out} holds {foreign[0]}, which is no part of an export; choose another --out")
    if names and not (out / FILES[1]).is_file():
        raise UserError(f"{out} is not empty and no earlier export; choose another --out")
    if names and not (out / FILES[1]).read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise UserError(f"{out / FILES[1]} was not written by an export; choose another --out")


def modelfile(source: Path, tokenizer: Tokenizer) -> str:
    """What Ollama builds the model in the directory `source` from."""
    lines = [MARK, f"FROM ./{FILES[0]}"]
    if tokenizer.chat_template == default_template():
        lines.append(f'TEMPLATE """{go_template()}"""')
    lines += [f"PARAMETER {NAMES[name]} {value}" for name, value in sampling(source).items()]
    lines.append(f"PARAMETER num_ctx {read_config(source).context_length}")
    stops = [tokenizer.backend.id_to_token(index) for index in dict.fromkeys((tokenizer.eos_id, tokenizer.pad_id))]
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    return "\n".join(lines) + "\n"


def go_template() -> str:
    """template.jinja as Ollama (0.9 or later) renders it, in the syntax of Go's text/template."""
    return Path(__file__).with_name("ollama.gotmpl").read_text(encoding="utf-8").removesuffix("\n")
