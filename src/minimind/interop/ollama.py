"""A model as Ollama builds it: a GGUF file, and a Modelfile with chat template and parameters beside it."""

from __future__ import annotations

from pathlib import Path

from minimind.interop.exports import Exported, check_replaceable
from minimind.interop.gguf import export_gguf, sampling
from minimind.model.hf.config import read_config
from minimind.model.hf.weights import model_directory
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.template import is_default
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


def export_ollama(source: str | Path, out: str | Path, kind: str = "f16") -> Exported:
    """Write model.gguf (type `kind`, see export_gguf) and Modelfile into the directory `out`, whole or not at all.

    An earlier export in `out` is replaced. UserError for anything else there, and as in export_gguf.
    """
    source, out = model_directory(source), Path(out)
    check_replaceable(out, "|".join(FILES), FILES[1], lambda text: text.startswith(MARK))
    tokenizer = Tokenizer.load(source)
    with whole_directory(out.resolve()) as partial:
        done = export_gguf(source, partial / FILES[0], kind)
        (partial / FILES[1]).write_text(modelfile(source, tokenizer), encoding="utf-8")
    if not is_default(tokenizer.chat_template):
        done.notes.append(
            "its chat template is not MiniMind's own, so the Modelfile has no TEMPLATE; see what Ollama takes "
            "instead with: ollama show NAME --template"
        )
    return done


def modelfile(source: Path, tokenizer: Tokenizer) -> str:
    """What Ollama builds the model in the directory `source` from."""
    lines = [MARK, f"FROM ./{FILES[0]}"]
    if is_default(tokenizer.chat_template):
        lines.append(f'TEMPLATE """{go_template()}"""')
    lines += [f"PARAMETER {NAMES[name]} {value}" for name, value in sampling(source).items()]
    lines.append(f"PARAMETER num_ctx {read_config(source).context_length}")
    stops = map(tokenizer.backend.id_to_token, tokenizer.stop_ids)
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if stop is not None]
    return "\n".join(lines) + "\n"


def go_template() -> str:
    """template.jinja as Ollama (0.9 or later) renders it, in the syntax of Go's text/template."""
    return Path(__file__).with_name("ollama.gotmpl").read_text(encoding="utf-8").removesuffix("\n")
