"""Checksums that tell whether what lies on a disk is what was written there.

A directory has them in `SHA256SUMS`, in the format of the program sha256sum: `sha256sum -c SHA256SUMS`. A YAML file
may have its own in a comment at its end.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from minimind.util.files import write_text

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)\n")
SEAL = re.compile(r"(?m)^# sha256 ([0-9a-f]{64}) of the lines above\n\Z")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(directory: Path) -> None:
    """Write the checksums of all files that are in a directory now."""
    paths = sorted(path for path in directory.iterdir() if path.name != SUMS)
    write_text(directory / SUMS, "".join(f"{sha256(path)}  {path.name}\n" for path in paths))


def read_sums(directory: Path) -> dict[str, str]:
    """The checksum of each file that `SHA256SUMS` names; ValueError where it is damaged or names none."""
    text = (directory / SUMS).read_text(encoding="utf-8")
    found = LINE.findall(text)
    if not found or "".join(f"{digest}  {name}\n" for digest, name in found) != text:
        raise ValueError(f"{SUMS} is damaged")
    return {name: digest for digest, name in found}


def find_damage(directory: Path) -> str | None:
    """What is not as `SHA256SUMS` says, in a few words; None where all is, or where there are no checksums."""
    if not (directory / SUMS).is_file():
        return None
    try:
        sums = read_sums(directory)
    except ValueError:
        return f"{SUMS} cannot be read"
    for name, digest in sums.items():
        if not (directory / name).is_file():
            return f"{name} is missing"
        if sha256(directory / name) != digest:
            return f"{name} is not what was written ({SUMS})"
    return None


def is_changed(path: Path) -> bool:
    """Whether a file is not the one that the `SHA256SUMS` beside it is about."""
    try:
        wanted = read_sums(path.parent).get(path.name)
    except (OSError, ValueError):
        return False
    return wanted is not None and sha256(path) != wanted


def seal(text: str) -> str:
    """Add the checksum of a text to its end, as a comment of YAML."""
    return f"{text}# sha256 {hashlib.sha256(text.encode()).hexdigest()} of the lines above\n"


def is_intact(text: str) -> bool:
    """Whether a text is what `seal` was given; true of a text without a checksum as well."""
    found = SEAL.search(text)
    return found is None or found[1] == hashlib.sha256(text[: found.start()].encode()).hexdigest()
