"""Any bit of any file of a run may flip: that is said, or it changes nothing."""

import os
import random
import shutil

import pytest
from tests.helpers import assert_same_run, last_checkpoint

from minimind.cli import main
from minimind.train.checkpoint import damage, read_marks

CHANGES = {"checkpoint__keep": 9, "evaluation__every": 3, "evaluation__samples": 2, "budget__steps": 10}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run and the same one stopped after step 8, of each command."""
    made = {}

    def runs(command):
        if command.__qualname__ not in made:
            place = tmp_path_factory.mktemp("runs")
            assert main(command(place / "whole", **CHANGES)) == 0
            shutil.copytree(place / "whole", place / "half")
            shutil.rmtree(place / "half/model")
            shutil.rmtree(last_checkpoint(place / "half"))
            made[command.__qualname__] = place
        return made[command.__qualname__]

    return runs


def flip_a_bit(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def resume(command, run):
    """The exit code of the same command, which is 0 or 2."""
    code = main(command(run, **CHANGES))
    assert code in (0, 2)
    return code


def check_flips(command, place, run, name, draw, capsys):
    """Flip a bit of the file `name` of a stopped run and go on with it."""
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(place / "half", run)
    flip_a_bit(run / name, draw)
    capsys.readouterr()
    code = resume(command, run)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    words = "damaged", "not what was written", "is not valid JSON", "has changed since it began", "recipe.yaml"
    noticed = any(word in said for word in words)
    if code == 2:
        assert noticed, said
    elif not noticed:
        assert_same_run(run, place / "whole")
        if name in (marks := read_marks(last_checkpoint(place / "half"))):
            size = marks[name]["bytes"]
            assert (run / name).read_bytes()[:size] == (place / "whole" / name).read_bytes()[:size], (name, said)
    return noticed


STAGES = ["pretrain", "dpo"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_bit_of_every_file(whole, stage, tmp_path, capsys, request):
    command = request.getfixturevalue(stage)
    place = whole(command)
    draw = random.Random(int(os.environ.get("FLIP_SEED", "0")))
    half = place / "half"
    names = sorted(path.relative_to(half).as_posix() for path in half.rglob("*") if path.is_file())
    assert {"recipe.yaml", "metrics.jsonl", "best/model.safetensors"} <= set(names)
    noticed = {name: check_flips(command, place, tmp_path / "run", name, draw, capsys) for name in names}
    newest = f"checkpoints/{last_checkpoint(half).name}/"
    assert all(said for name, said in noticed.items() if name.startswith((newest, "best/")))


def test_every_flipped_bit_of_a_checkpoint_is_found(whole, pretrain, tmp_path):
    checkpoint = shutil.copytree(last_checkpoint(whole(pretrain) / "half"), tmp_path / "step-0000008")
    assert damage(checkpoint) is None
    draw = random.Random(0)
    for path in checkpoint.iterdir():
        before = path.read_bytes()
        for _ in range(20):
            flip_a_bit(path, draw)
            assert f"{checkpoint} is damaged: " in str(damage(checkpoint)), path
            path.write_bytes(before)
