import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from minimind.commands.data_get import run
from minimind.data.sources import download, published
from minimind.data.sources.published import check_disk, fetch, locate
from minimind.errors import UserError

COMMIT = "1" * 40
CONTENT = b'{"text": "hello"}\n' * 5000
SMALL = b'{"conversations": []}\n'
HF = "jingyaogong/minimind_dataset"
MODELSCOPE = "gongjy/minimind_dataset"


class FakeHub:
    """Both hubs' protocols on 127.0.0.1. `faults` are done one at a time by the next requests for a file."""

    def __init__(self):
        self.branch = COMMIT
        self.files = {"dpo.jsonl": CONTENT, "lora_identity.jsonl": SMALL}
        self.faults = []
        self.requests = []  # (path, Range header)
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.requests.append((self.path, self.headers["Range"]))
                hub.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request):
        url = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.startswith("/cdn/"):
            return self.send_file(request, self.files[url.path.removeprefix("/cdn/")])
        if url.path == f"/api/datasets/{HF}/revision/main":
            return self.send_json(request, {"id": HF, "sha": self.branch})
        if url.path == f"/api/datasets/{HF}/revision/{'2' * 40}":
            return self.send_json(request, {"id": HF, "sha": "2" * 40})
        if url.path.startswith(f"/api/datasets/{HF}/tree/"):
            return self.send_json(request, [self.hf_entry(file) for file in self.files])
        if url.path.startswith(f"/datasets/{HF}/resolve/"):
            commit, file = url.path.split("/")[-2:]
            if file in self.files:
                request.send_response(302)
                request.send_header("Location", f"/cdn/{file}")
                request.send_header("X-Repo-Commit", commit)
                request.send_header("X-Linked-Etag", f'"{hashlib.sha256(self.files[file]).hexdigest()}"')
                request.send_header("Content-Length", "0")
                return request.end_headers()
        if url.path == f"/api/v1/datasets/{MODELSCOPE}/repo/tree" and query["Revision"] == "master":
            files = [self.modelscope_entry(file) for file in self.files]
            return self.send_json(request, {"Code": 200, "Data": {"Files": files}, "Success": True})
        if url.path == f"/api/v1/datasets/{MODELSCOPE}/repo" and query["Revision"] == self.branch:
            return self.send_file(request, self.files[query["FilePath"]])
        return request.send_error(404)

    def hf_entry(self, file):
        content = self.files[file]
        entry = {"type": "file", "path": file, "size": len(content)}
        if len(content) < 1000:  # kept by git itself
            return entry | {"oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
        oid = hashlib.sha256(content).hexdigest()
        return entry | {"oid": "0" * 40, "lfs": {"oid": oid, "size": len(content), "pointerSize": 130}}

    def modelscope_entry(self, file):
        content = self.files[file]
        sha256 = hashlib.sha256(content).hexdigest()
        return {
            "Name": file,
            "Path": file,
            "Size": len(content),
            "Sha256": sha256,
            "Revision": self.branch,
            "Type": "blob",
        }

    def send_json(self, request, value):
        body = json.dumps(value).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def send_file(self, request, content):
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            request.send_response(fault)
            request.send_header("Retry-After", "7")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        if fault == "wrong content":
            content = content.replace(b"hello", b"hallo")
        start = 0
        if request.headers["Range"] and fault != "no range":
            start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        body = content[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if fault == "drop" else body)

    def downloads(self):
        return [ranges for path, ranges in self.requests if path.startswith("/cdn/") or "FilePath" in path]


@pytest.fixture
def hub(monkeypatch):
    hub = FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that would have been waited."""
    waits = []
    monkeypatch.setattr(download, "sleep", waits.append)
    return waits


def get(directory, name="dpo", hub=None, revision=None):
    return fetch(locate(name, directory, hub, revision), directory)


@pytest.mark.parametrize("name", ["hf", "modelscope"])
def test_a_set_arrives_whole_and_its_origin_is_recorded(hub, tmp_path, name):
    seen = []
    source = locate("dpo", tmp_path, name)
    assert fetch(source, tmp_path, seen.append).read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["dpo.jsonl", "dpo.source.json"]
    recorded = json.loads((tmp_path / "dpo.source.json").read_text())
    assert recorded["hub"] == name
    assert recorded["revision"] == COMMIT
    assert recorded["size"] == len(CONTENT)
    assert recorded["checksum"] == "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    assert recorded["url"].startswith(hub.address)
    assert COMMIT in recorded["url"]


def test_a_small_file_that_git_keeps_is_checked_too(hub, tmp_path):
    source = locate("lora_identity", tmp_path)
    assert source.checksum.startswith("git-sha1:")
    assert fetch(source, tmp_path).read_bytes() == SMALL


def test_a_download_that_is_there_is_not_repeated(hub, tmp_path):
    get(tmp_path)
    before = len(hub.requests)
    get(tmp_path)
    assert len(hub.requests) == before


def test_the_recorded_commit_is_kept_when_the_branch_moves(hub, tmp_path):
    get(tmp_path).unlink()
    hub.branch = "2" * 40
    assert locate("dpo", tmp_path).revision == COMMIT
    assert locate("dpo", tmp_path, revision="2" * 40).revision == "2" * 40
    assert locate("dpo", tmp_path).revision == "2" * 40


def test_a_mirror_named_later_is_used(hub, tmp_path, monkeypatch):
    locate("dpo", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert locate("dpo", tmp_path).url == f"https://mirror.example/datasets/{HF}/resolve/{COMMIT}/dpo.jsonl"


def test_a_dropped_connection_is_taken_up_where_it_ended(hub, tmp_path):
    hub.faults = ["drop", "drop"]
    assert get(tmp_path).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert hub.downloads() == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_download_goes_on_in_the_next_call(hub, tmp_path):
    (tmp_path / "dpo.jsonl.part").write_bytes(CONTENT[:1234])
    assert get(tmp_path).read_bytes() == CONTENT
    assert hub.downloads() == ["bytes=1234-"]


def test_the_part_of_another_revision_is_not_continued(hub, tmp_path):
    locate("dpo", tmp_path)
    (tmp_path / "dpo.jsonl.part").write_bytes(CONTENT[:1234])
    hub.files["dpo.jsonl"] = changed = CONTENT.replace(b"hello", b"world")
    assert get(tmp_path, revision="2" * 40).read_bytes() == changed
    assert hub.downloads() == [None]


def test_a_server_without_range_sends_all_again(hub, tmp_path):
    hub.faults = ["drop", "no range"]
    assert get(tmp_path).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_begins_anew(hub, tmp_path):
    (tmp_path / "dpo.jsonl.part").write_bytes(CONTENT + b"more")
    assert get(tmp_path).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_when_it_says(hub, tmp_path, waits):
    hub.faults = [429, 503]
    assert get(tmp_path).read_bytes() == CONTENT
    assert waits == [7, 7]


def test_a_server_that_stays_broken_is_given_up(hub, tmp_path, waits):
    hub.faults = [500] * 9
    with pytest.raises(UserError, match="answered HTTP 500"):
        get(tmp_path)
    assert len(waits) == download.ATTEMPTS - 1


def test_drops_without_progress_end(hub, tmp_path):
    (tmp_path / "dpo.jsonl.part").write_bytes(CONTENT[:-1])
    hub.faults = ["drop"] * 9  # one byte is left, and half of it is none
    with pytest.raises(UserError, match="the connection closed before the end"):
        get(tmp_path)
    assert (tmp_path / "dpo.jsonl.part").exists()


def test_a_wrong_checksum_is_refused_and_not_kept(hub, tmp_path):
    hub.faults = ["wrong content"]
    with pytest.raises(UserError, match="wrong checksum"):
        get(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dpo.source.json"]
    assert get(tmp_path).read_bytes() == CONTENT


def test_a_file_of_the_same_name_is_not_overwritten(hub, tmp_path):
    (tmp_path / "dpo.jsonl").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"exists and is not dpo\.jsonl of revision 111111111111"):
        get(tmp_path)
    assert (tmp_path / "dpo.jsonl").read_bytes() == b"mine"


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean sft_t2t_mini"):
        locate("sft_t2t_mni", tmp_path)
    with pytest.raises(UserError, match="minimind data get --list"):
        locate("wikipedia", tmp_path)


def test_an_unknown_revision_is_named(hub, tmp_path):
    with pytest.raises(
        UserError, match=r"revision/nowhere does not exist \(HTTP 404\); check the name and --revis"
    ):
        locate("dpo", tmp_path, revision="nowhere")


def test_a_set_missing_at_a_revision_is_named(hub, tmp_path):
    with pytest.raises(UserError, match=r"has no sft_512\.jsonl at revision 111111111111"):
        locate("sft_512", tmp_path)
    with pytest.raises(UserError, match=r"gongjy/minimind_dataset has no sft_512\.jsonl at revision master"):
        locate("sft_512", tmp_path, "modelscope")


def test_no_network_is_one_sentence(hub, tmp_path, waits):
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(UserError, match=r"cannot reach 127\.0\.0\.1:\d+ \(.*refused.*\); check the network"):
        locate("dpo", tmp_path)
    assert waits == [1, 2, 4, 8]


@pytest.mark.parametrize("body", [b"<html>please log in</html>", b'{"error": "no"}'])
def test_an_answer_that_is_not_a_hubs(hub, tmp_path, monkeypatch, body):
    monkeypatch.setattr(hub, "send_json", lambda request, value: hub.send_file(request, body))
    with pytest.raises(UserError, match="did not answer"):
        locate("dpo", tmp_path)


def test_an_endpoint_without_scheme(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(UserError, match=r"HF_ENDPOINT is 'mirror\.example'; it must be an address"):
        locate("dpo", tmp_path)


def test_a_full_disk(hub, tmp_path, monkeypatch):
    source = locate("dpo", tmp_path)
    monkeypatch.setattr(published.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="has 1 KB free and 90 KB are needed; make room"):
        check_disk([source], tmp_path)
    (tmp_path / "dpo.jsonl.part").write_bytes(CONTENT[:-1000])  # only the rest counts
    check_disk([source], tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_on_the_way(hub, tmp_path):
    (tmp_path / "dpo.jsonl.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full; make room and run the same command again"):
        get(tmp_path)


def test_the_command(hub, tmp_path, capsys):
    assert run(["dpo", "lora_identity", "--to", str(tmp_path)]) is None
    printed = capsys.readouterr().out
    assert "90 KB in 2 file(s)" in printed
    assert f"{HF}@111111111111  checksum ok" in printed
    assert (tmp_path / "lora_identity.jsonl").read_bytes() == SMALL


def test_the_command_lists_what_there_is(capsys):
    run(["--list"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in published.PUBLISHED)
    with pytest.raises(UserError, match="name the data sets"):
        run([])
