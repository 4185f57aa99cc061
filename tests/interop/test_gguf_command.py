"""`minimind export gguf` as typed: what it refuses, and what it leaves behind when it fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.interop.test_gguf import EXPERTS, export, make

from minimind.cli import main
from minimind.errors import UserError
from minimind.interop.gguf import export_gguf
from minimind.interop.gguf_read import read_gguf
from minimind.model import save_model
from minimind.model.config import RopeScaling
from minimind.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dynamic": ({"rope_scaling": RopeScaling("dynamic", 4.0)}, "no dynamic rope_scaling; choose yarn or linear"),
    "betas": (
        {"rope_scaling": RopeScaling("yarn", 4.0, 64, beta_slow=2.0), "rope_theta": 1e4},
        "beta_fast 32 and beta_slow 1 only",
    ),
    "experts": ({"model_type": "qwen3_moe", **EXPERTS, "num_experts": 513}, "at most 512 experts"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_does_not_compute_is_refused(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    fields, message = REFUSED[name]
    save_model(make(tokenizer, **fields), tmp_path / "model", tokenizer)
    out = tmp_path / "model.gguf"
    out.write_text("an earlier file")
    assert main(["export", "gguf", str(tmp_path / "model"), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert out.read_text() == "an earlier file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.gguf"]


def test_values_beyond_f16_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = make(tokenizer)
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = 1e5
    with pytest.raises(UserError, match=r"blk\.1\.ffn_up\.weight has values beyond 65504.*bf16"):
        export(model, tokenizer, tmp_path, "f16")
    assert export(model, tokenizer, tmp_path, "bf16").is_file()


def test_the_command(talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "talker.gguf"
    assert main(["export", "gguf", str(talker), "--type", "q8_0", "--out", str(out)]) == 0
    size = out.stat().st_size
    note = "note: 2 matrices are f16, because their rows are no multiple of 32: blk.0.ffn_down.weight …\n"
    assert capsys.readouterr().out == f"{out}: q8_0, {size / 1e6:.1f} MB, architecture qwen3\n{note}"
    assert [path.name for path in out.parent.iterdir()] == ["talker.gguf"]

    assert main(["export", "gguf", str(talker), "--type", "q4_k_m", "--out", str(out)]) == 2
    assert "types: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 (for K-quants" in capsys.readouterr().err
    assert main(["export", "gguf", str(talker), "--out", str(tmp_path)]) == 2
    assert "give the name of a file" in capsys.readouterr().err
    assert out.stat().st_size == size


def run(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


def test_a_failed_write_and_a_kill_leave_the_earlier_file(talker: Path, tmp_path: Path) -> None:
    out = tmp_path / "talker.gguf"
    out.write_text("an earlier file")
    done = run(
        """
        import os, resource, signal, sys
        from pathlib import Path
        from minimind.cli import main
        from minimind.interop import gguf_file

        command = ["export", "gguf", sys.argv[1], "--out", sys.argv[2]]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
        assert main(command) == 2
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        print(os.listdir(Path(sys.argv[2]).parent), flush=True)

        quantize, left = gguf_file.quantize, [5]

        def and_then_die(*arguments):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return quantize(*arguments)

        gguf_file.quantize = and_then_die
        main(command)
        """,
        talker,
        out,
    )
    assert "File too large" in done.stderr
    assert done.stdout == "['talker.gguf']\n"
    assert done.returncode == -signal.SIGKILL
    assert out.read_text() == "an earlier file"
    export_gguf(talker, out)
    assert read_gguf(out)
    assert [path.name for path in tmp_path.iterdir()] == ["talker.gguf"]


def test_a_missing_package_is_one_sentence(talker: Path, tmp_path: Path) -> None:
    done = run(
        """
        import sys
        sys.modules["gguf"] = None
        from minimind.cli import main
        for command in (["export", "gguf"], ["export", "ollama"]):
            assert main([*command, sys.argv[1], "--out", sys.argv[2]]) == 2
        main(["chat", sys.argv[2]])
        """,
        talker,
        tmp_path / "model.gguf",
    )
    message = "gguf is not installed; get it with: pip install gguf (or all of the extra: minimind[gguf])"
    assert done.stderr == f"error: {message}\n" * 3
