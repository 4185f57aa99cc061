"""Download MiniMind's published data sets from Hugging Face or ModelScope.

A branch is resolved to a commit at the first download, and what was found (commit, size, checksum, address) is
kept beside the file in NAME.source.json; later downloads take exactly that file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

from minimind.data.sources.download import OnProgress, download, read_json
from minimind.errors import UserError
from minimind.util.files import write_json
from minimind.util.json_files import loads
from minimind.util.suggest import did_you_mean
from minimind.util.units import size_text

Hub = Literal["hf", "modelscope"]
HUBS: dict[str, tuple[str, str, str]] = {  # environment variable, its default, repository
    "hf": ("HF_ENDPOINT", "https://huggingface.co", "jingyaogong/minimind_dataset"),
    "modelscope": ("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn", "gongjy/minimind_dataset"),
}

# Files, sizes and uses as in the README of github.com/jingyaogong/minimind, of April 2026 and (from pretrain_hq
# on) of February to October 2025. The size that counts is the hub's.
PUBLISHED: dict[str, tuple[str, str]] = {
    "pretrain_t2t_mini": ("1.2 GB", "pretraining, for a quick start"),
    "pretrain_t2t": ("10 GB", "pretraining, all of it"),
    "sft_t2t_mini": ("1.6 GB", "chats with thinking and tool calls, for a quick start"),
    "sft_t2t": ("14 GB", "chats with thinking and tool calls, all of it"),
    "dpo": ("53 MB", "preference pairs"),
    "rlaif": ("24 MB", "prompts for reinforcement learning"),
    "agent_rl": ("86 MB", "tool use over several turns, for reinforcement learning"),
    "agent_rl_math": ("18 MB", "mathematics with checkable answers, for reinforcement learning"),
    "pretrain_hq": ("1.6 GB", "2025: pretraining"),
    "sft_mini_512": ("1.2 GB", "2025: chats of up to 512 characters, for a quick start"),
    "sft_512": ("7.5 GB", "2025: chats of up to 512 characters"),
    "sft_1024": ("5.6 GB", "2025: chats of up to 1024 characters"),
    "sft_2048": ("9 GB", "2025: chats of up to 2048 characters"),
    "r1_mix_1024": ("340 MB", "2025: chats with reasoning"),
    "rlaif-mini": ("1 MB", "2025: prompts for reinforcement learning"),
    "lora_identity": ("23 KB", "2025: who the model is"),
    "lora_medical": ("34 MB", "2025: medical questions and answers"),
    "tokenizer_train": ("1 GB", "2025: text to train a tokenizer on"),
}

BLOCK = 1 << 20  # bytes hashed at a time


@dataclass(frozen=True)
class Source:
    """One published file at one revision: what NAME.source.json holds."""

    name: str
    hub: str
    repository: str
    file: str
    revision: str  # commit
    size: int  # bytes
    checksum: str  # "sha256:…", or "git-sha1:…" for a small file that git keeps itself
    url: str


def locate(name: str, directory: Path, hub: Hub | None = None, revision: str | None = None) -> Source:
    """The file to download: the one recorded in `directory` if it is what was asked for, else the hub's newest.

    The hub's answer is recorded in `directory`. UserError for an unknown name, revision or hub trouble.
    """
    if name not in PUBLISHED:
        hint = did_you_mean(name, PUBLISHED, "see minimind data get --list")
        raise UserError(f"there is no published data set {name}; {hint}")
    lock = directory / f"{name}.source.json"
    recorded = _read_lock(lock)
    if recorded and hub in (None, recorded.hub) and revision in (None, recorded.revision):
        return replace(recorded, url=_url(recorded.hub, recorded.revision, recorded.file))  # the mirror of today
    source = _from_modelscope(name, revision) if hub == "modelscope" else _from_hugging_face(name, revision)
    if recorded and recorded.checksum != source.checksum:
        _part(source, directory).unlink(missing_ok=True)  # it began as another file
    write_json(lock, asdict(source))
    return source


def missing_bytes(source: Source, directory: Path) -> int:
    """How much of the file is still to be downloaded."""
    if (directory / source.file).exists():
        return 0
    part = _part(source, directory)
    return source.size - (part.stat().st_size if part.exists() else 0)


def check_disk(sources: list[Source], directory: Path) -> None:
    """UserError when what is still to be downloaded does not fit on the disk of `directory`."""
    needed = sum(missing_bytes(source, directory) for source in sources)
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise UserError(
            f"{directory} has {size_text(free)} free and {size_text(needed)} are needed;"
            " make room or choose another directory with --to"
        )


def fetch(source: Source, directory: Path, progress: OnProgress = lambda done: None) -> Path:
    """Download the file into `directory` unless it is there, check it, and return its path.

    It grows as FILE.part, which a later call continues, and gets its name only when its checksum is right.
    """
    target, part = directory / source.file, _part(source, directory)
    if target.exists():
        if target.stat().st_size != source.size or _checksum(target, source) != source.checksum:
            raise UserError(
                f"{target} exists and is not {source.file} of revision {source.revision[:12]};"
                " move it away or choose another directory with --to"
            )
        progress(source.size)
        return target
    directory.mkdir(parents=True, exist_ok=True)
    check_disk([source], directory)
    download(source.url, part, source.size, progress)
    if _checksum(part, source) != source.checksum:
        part.unlink()
        raise UserError(
            f"{source.url} gave a file with a wrong checksum, which was deleted; try again, or another hub (--from)"
        )
    part.replace(target)
    return target


def _part(source: Source, directory: Path) -> Path:
    return directory / f"{source.file}.part"


def _read_lock(lock: Path) -> Source | None:
    if not lock.exists():
        return None
    try:
        return Source(**loads(lock.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{lock} is damaged; delete it to ask the hub again") from None


def _checksum(path: Path, source: Source) -> str:
    kind = source.checksum.partition(":")[0]
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git-sha1":  # git names a file by the hash of this header and its content
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"


def _from_hugging_face(name: str, revision: str | None) -> Source:
    """Ask the hub's API for the commit of `revision` and the file's size and checksum there."""
    endpoint, repository = _hub("hf")
    api, file = f"{endpoint}/api/datasets/{repository}", f"{name}.jsonl"
    commit = _json(f"{api}/revision/{quote(revision or 'main', safe='')}", "sha")
    entries = {entry["path"]: entry for entry in _json(f"{api}/tree/{commit}")}
    entry = _entry(entries, file, repository, commit)
    checksum = f"sha256:{entry['lfs']['oid']}" if entry.get("lfs") else f"git-sha1:{entry['oid']}"
    return Source(name, "hf", repository, file, commit, entry["size"], checksum, _url("hf", commit, file))


def _from_modelscope(name: str, revision: str | None) -> Source:
    """The same from ModelScope, whose listing gives with each file the commit that last changed it."""
    endpoint, repository = _hub("modelscope")
    branch, file = revision or "master", f"{name}.jsonl"
    query = urlencode({"Revision": branch, "Root": "/", "Recursive": False, "PageNumber": 1, "PageSize": 100})
    files = _json(f"{endpoint}/api/v1/datasets/{repository}/repo/tree?{query}", "Data", "Files")
    entry = _entry({entry["Path"]: entry for entry in files}, file, repository, branch)
    commit, checksum = entry["Revision"], f"sha256:{entry['Sha256']}"
    url = _url("modelscope", commit, file)
    return Source(name, "modelscope", repository, file, commit, entry["Size"], checksum, url)


def _hub(hub: str) -> tuple[str, str]:
    """Address and repository."""
    variable, default, repository = HUBS[hub]
    endpoint = os.environ.get(variable, default).rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise UserError(f"{variable} is {endpoint!r}; it must be an address such as {default}")
    return endpoint, repository


def _url(hub: str, commit: str, file: str) -> str:
    endpoint, repository = _hub(hub)
    if hub == "hf":
        return f"{endpoint}/datasets/{repository}/resolve/{commit}/{file}"
    query = urlencode({"Revision": commit, "FilePath": file})
    return f"{endpoint}/api/v1/datasets/{repository}/repo?{query}"


def _entry(entries: dict[str, Any], file: str, repository: str, revision: str) -> Any:
    if file not in entries:
        raise UserError(
            f"{repository} has no {file} at revision {revision[:12]}; a set of 2025 may be in an earlier"
            " revision: find its commit on the hub's page and give --revision COMMIT"
        )
    return entries[file]


def _json(url: str, *keys: str) -> Any:
    """What lies under `keys` in the JSON at `url`."""
    value = read_json(url)
    try:
        for key in keys:
            value = value[key]
    except (KeyError, TypeError):
        raise UserError(f"{url} did not answer as a hub does; check the network and the endpoint") from None
    return value
