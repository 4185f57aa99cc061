"""A directory and a text tell whether they are what was written."""

import random
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.util.checksums import SUMS, find_damage, is_changed, is_intact, seal, write_sums


@pytest.fixture
def directory(tmp_path):
    for name, content in {"weights": bytes(range(256)) * 9, "config.json": b"{}", "空 name": b""}.items():
        (tmp_path / name).write_bytes(content)
    write_sums(tmp_path)
    return tmp_path


def flip(path, draw):
    """Change one bit of a file; returns its old content."""
    before = path.read_bytes()
    changed = bytearray(before)
    changed[draw.randrange(len(before))] ^= 1 << draw.randrange(8)
    path.write_bytes(changed)
    return before


def test_every_flipped_bit_is_found(directory):
    assert find_damage(directory) is None
    draw = random.Random(0)
    for path in [path for path in directory.iterdir() if path.stat().st_size]:
        for _ in range(100):
            before = flip(path, draw)
            problem = find_damage(directory)
            assert problem is not None
            assert path.name == SUMS or problem == f"{path.name} is not what was written (SHA256SUMS)"
            assert is_changed(path) == (path.name != SUMS)
            path.write_bytes(before)
    assert find_damage(directory) is None


def test_what_is_missing_or_cut_is_found_and_what_is_new_is_not_our_business(directory):
    (directory / "README.md").write_text("somebody's own")
    assert find_damage(directory) is None
    sums = (directory / SUMS).read_bytes()
    for cut in range(0, len(sums), 7):
        (directory / SUMS).write_bytes(sums[:cut])
        assert (find_damage(directory) is None) == (cut > 0 and sums[:cut].endswith(b"\n"))
    (directory / SUMS).write_bytes(sums)
    (directory / "config.json").unlink()
    assert find_damage(directory) == "config.json is missing"
    (directory / SUMS).unlink()  # as in a directory of an earlier version
    assert find_damage(directory) is None


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not installed")
def test_the_usual_program_reads_it(directory):
    command = ["sha256sum", "-c", SUMS]
    assert subprocess.run(command, cwd=directory, capture_output=True).returncode == 0
    flip(directory / "weights", random.Random(1))
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 1
    assert "weights: FAILED" in done.stdout


@given(st.text(st.characters(codec="utf-8")), st.randoms(use_true_random=False))
def test_a_sealed_text(text, draw):
    text += "\n"
    sealed = seal(text)
    assert sealed.startswith(text)
    assert is_intact(sealed)
    assert is_intact(text)
    place = draw.randrange(len(text))
    other = sealed[:place] + chr(ord(sealed[place]) ^ 1) + sealed[place + 1 :]
    assert not is_intact(other) or place == len(text) - 1  # without its line end, the last line is no checksum
