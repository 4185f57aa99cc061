"""`minimind runs`: reading run directories as trainings leave them, finished, living or killed."""

import json
import math
import os
import random
import re
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from minimind import cli
from minimind.runs.read import in_order, read_run
from minimind.runs.svg import ASCII_SIGNS, SIGNS, sparkline
from minimind.util.units import date_text

DEAD = subprocess.Popen([sys.executable, "-c", ""])
DEAD.wait()


def metrics(steps, loss=9.0):
    for step in range(10, steps + 1, 10):
        line = {"step": step, "tokens": step * 100, "loss": loss / step, "lr": 0.01, "grad_norm": 1.0}
        yield {**line, "tokens_per_second": 1000.0 + step, "elapsed": step / 10}
        if step % 20 == 0:
            scores = {"bits_per_byte": 5.0 - step / 100 + (step > 80), "loss": loss / step + 1}
            yield {"step": step, "tokens": step * 100, "eval": scores}


def make_run(path, status="finished", steps=100, started=1000.0, pid=DEAD.pid, tail="", **recipe):
    path.mkdir(parents=True)
    state = {"stage": "pretrain", "pid": pid, "host": socket.gethostname(), "started": started, "status": status}
    if status != "running":
        state |= {"step": steps, "total_steps": 200 if status == "stopped" else steps, "tokens": steps * 100}
    (path / "state.json").write_text(json.dumps(state))
    settings = {"stage": "pretrain", "data": ["corpus.jsonl"], "seed": 0, "model": {"hidden_size": 64}, **recipe}
    (path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    command = ["/bin/minimind", "train", "pretrain", "--data", "my corpus.jsonl", "--out", str(path)]
    (path / "environment.json").write_text(json.dumps({"command": command, "torch": "2.13", "processor": "x86"}))
    lines = [json.dumps(line) + "\n" for line in metrics(steps)]
    (path / "metrics.jsonl").write_text("".join(lines) + tail)
    (path / "model").mkdir()
    (path / "model" / "model.safetensors").write_bytes(bytes(2_500_000))
    return path


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMIND_RUNS", raising=False)
    make_run(tmp_path / "runs" / "base", started=1000.0)
    make_run(
        tmp_path / "runs" / "quick" / "中文", "stopped", 50, started=3000.0, seed=7, model={"hidden_size": 128}
    )
    make_run(tmp_path / "runs" / "killed", "running", 30, started=2000.0, tail='{"step": 40, "lo')
    return tmp_path / "runs"


def say(capsys, *argv, code=0):
    assert cli.main(["runs", *map(str, argv)]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def as_json(capsys, *argv):
    return json.loads(say(capsys, *argv, "--json"))


def test_list_as_typed(runs):
    source = str(Path(cli.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "minimind", "runs", "list"],
        cwd=runs.parent,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "run         stage     status        steps  tokens  loss  bits/byte  tokens/s    size\n"
        "quick/中文  pretrain  stopped      50/200      5k  0.18        4.6     1,030  2.5 MB\n"
        "killed      pretrain  interrupted      30      3k   0.3        4.8     1,020  2.5 MB\n"
        "base        pretrain  finished        100     10k  0.09          5     1,055  2.5 MB\n"
    )


def test_list_json(runs, capsys):
    found = as_json(capsys, "list")
    assert [one["name"] for one in found] == ["quick/中文", "killed", "base"]
    base = found[-1]
    assert (base["steps"], base["tokens"], base["loss"]) == (100, 10000, 0.09)
    assert (base["bits_per_byte"], base["best_bits_per_byte"]) == (5.0, 4.2)
    assert base["size_bytes"] == sum(f.stat().st_size for f in (runs / "base").rglob("*") if f.is_file())


def test_list_elsewhere(runs, capsys, monkeypatch, tmp_path):
    assert [one["name"] for one in as_json(capsys, "list", runs / "quick")] == ["中文"]
    assert [one["name"] for one in as_json(capsys, "list", runs / "base")] == ["base"]
    monkeypatch.setenv("MINIMIND_RUNS", str(runs / "quick"))
    assert [one["name"] for one in as_json(capsys, "list")] == ["中文"]
    monkeypatch.setenv("MINIMIND_RUNS", str(tmp_path / "none"))
    assert as_json(capsys, "list") == []
    assert "no runs in" in say(capsys, "list")
    assert say(capsys, "list", tmp_path / "none", code=2).startswith(f"error: {tmp_path}/none is no directory")


def test_a_living_process_is_running(runs):
    alive = make_run(runs / "alive", "running", pid=os.getpid())
    assert read_run(alive).status == "running"
    state = json.loads((runs / "killed" / "state.json").read_text())
    (runs / "killed" / "state.json").write_text(json.dumps({**state, "host": "elsewhere"}))
    assert read_run(runs / "killed").status == "running"


def test_damaged_files_do_not_hide_a_run(runs, capsys):
    (runs / "base" / "state.json").write_text('{"stage": "pre')
    (runs / "base" / "recipe.yaml").write_text("a: [")
    (runs / "base" / "environment.json").unlink()
    (runs / "base" / "metrics.jsonl").write_bytes(
        b'\xff\xfe\n[1]\n{"step": "x"}\n{"step": 1, "tokens": 2, "loss": null}\n'
    )
    base = as_json(capsys, "list")[-1]
    assert (base["status"], base["steps"], base["loss"]) == ("damaged", 1, None)
    assert "damaged" in say(capsys, "show", "base")


def test_what_was_written_after_the_checkpoint_is_replaced():
    lines = [{"step": step, "loss": n} for n, step in enumerate([10, 20, 30, 40, 30, 40, 50])]
    assert [(line["step"], line["loss"]) for line in in_order(lines)] == [
        (10, 0),
        (20, 1),
        (30, 4),
        (40, 5),
        (50, 6),
    ]


DAMAGED = [None, True, -1, 10**50, 10**400, 1e300, math.nan, math.inf, "x", [], [None], {}, {"a": 1}]
FILES = ("state.json", "environment.json", "recipe.yaml", "metrics.jsonl", "samples.jsonl")


def damage(value, rng):
    """The same with something else at one place."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        copy = dict(value) if isinstance(value, dict) else list(value)
        place = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        copy[place] = damage(value[place], rng)
        return copy
    return rng.choice(DAMAGED)


@pytest.mark.parametrize("name", FILES)
def test_whatever_stands_in_a_file_of_a_run_it_is_shown(runs, capsys, name):
    file, rng = runs / "base" / name, random.Random(name)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (runs / "base" / "samples.jsonl").write_text(json.dumps({"step": 20, "conversations": messages}) + "\n")
    good = file.read_bytes()
    for turn in range(12):
        if turn % 3 == 0:
            flipped = bytearray(good)
            flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped[: rng.choice([len(good), rng.randrange(len(good))])])
        elif file.suffix == ".jsonl":
            lines = damage([json.loads(line) for line in good.split(b"\n") if line], rng)
            file.write_text("\n".join(map(json.dumps, lines if isinstance(lines, list) else [lines])))
        else:
            file.write_text(json.dumps(damage(yaml.safe_load(good), rng)))
        for command in (["list"], ["show", "base"], ["compare", "base", "killed"], ["report", "base"]):
            say(capsys, *command)


UNFOLDS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "data: [*a39]"


@pytest.mark.parametrize("text", [UNFOLDS, "a: " + "[" * 20_000], ids=["unfolds", "nested"])
def test_a_recipe_without_end_is_damaged(runs, capsys, text):
    (runs / "base" / "recipe.yaml").write_text(text, encoding="utf-8")
    for command in (["list"], ["show", "base"]):
        assert "base" in say(capsys, *command)


def test_show(runs, capsys):
    page = say(capsys, "show", "quick/中文")
    for part in ("pretrain (stopped)", "50 of 200 steps, 5k tokens", "corpus.jsonl", "x86", "2.5 MB"):
        assert part in page
    assert f"continue it:   minimind train pretrain --data 'my corpus.jsonl' --out '{runs}/quick/中文'\n" in page
    assert "talk to it:    minimind chat 'runs/quick/中文'\n" in page
    assert "bits per byte  5 (best 4.2)" in (page := say(capsys, "show", runs / "base"))
    assert "continue it" not in page
    assert "0.9 to 0.09" in page
    shown = as_json(capsys, "show", "base")
    assert shown["recipe"]["model.hidden_size"] == 64
    assert shown["environment"]["torch"] == "2.13"


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "gbk", "cp1252"])
def test_a_console_without_unicode(runs, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    for command in (["show", "quick/中文"], ["list"]):
        argv = [sys.executable, "-m", "minimind", "runs", *command]
        done = subprocess.run(argv, cwd=runs.parent, env=environment, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
    course = sparkline(range(10), signs=SIGNS if encoding == "gbk" else ASCII_SIGNS)  # of the rate, which rises
    show = [sys.executable, "-m", "minimind", "runs", "show", "base"]
    assert (
        course.encode(encoding.partition(":")[0])
        in subprocess.run(show, cwd=runs.parent, env=environment, capture_output=True).stdout
    )


def test_compare(runs, capsys):
    page = say(capsys, "compare", "base", "runs/quick/中文")
    assert [line.split() for line in page.splitlines()[:3]] == [
        ["base", "runs/quick/中文"],
        ["model.hidden_size", "64", "128"],
        ["seed", "0", "7"],
    ]
    assert ["loss", "0.09", "0.18"] in [line.split() for line in page.splitlines()]
    found = as_json(capsys, "compare", "base", "killed", "quick/中文")
    assert found["settings"] == {"model.hidden_size": [64, 64, 128], "seed": [0, 0, 7]}
    assert found["results"]["status"] == ["finished", "interrupted", "stopped"]
    assert "(the same settings)" in say(capsys, "compare", "base", "killed")
    assert "two runs" in say(capsys, "compare", "base", code=2)


def test_plot(runs, capsys):
    page = say(capsys, "plot", "base")
    assert "drawn in runs/base/plots.svg" in page
    assert "Learning rate" in page
    titles = {node.text for node in ET.parse(runs / "base" / "plots.svg").iter() if node.text}
    assert {
        "Loss",
        "held-out",
        "Held-out bits per byte",
        "Gradient norm",
        "Tokens per second",
    } <= titles
    say(capsys, "plot", "base", "killed", "--out", "both.html")
    assert "<svg" in (runs.parent / "both.html").read_text(encoding="utf-8")
    say(capsys, "plot", "base", "killed")
    titles = {node.text for node in ET.parse(runs.parent / "plots.svg").iter() if node.text}
    assert {"Loss: training", "Loss: held-out", "base", "killed"} <= titles


def test_report(runs, capsys):
    sample = {
        "step": 50,
        "conversations": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "<b>"}],
    }
    (runs / "base" / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    assert say(capsys, "report", "base") == "written: runs/base/report.html\n"
    html = (runs / "base" / "report.html").read_text(encoding="utf-8")
    for part in ("你好", "&lt;b&gt;", "model.hidden_size", "<svg", "Held out", "my corpus.jsonl"):
        assert part in html
    cells = dict(re.findall(r"<th>([^<]*)</th><td[^>]*>([^<]*)</td>", html))
    assert (cells["time"], cells["size"], cells["started"]) == ("10 s", "2.5 MB", date_text(1000.0))
    assert cells["tokens per second"] == "1,055"
    assert not {"seconds", "size bytes"} & cells.keys()
    # Line ends to Unicode, which are none to JSON lines; and a file that ends inside a character.
    strange = [{"role": "user", "content": "a\u2028b"}, {"role": "assistant", "content": "c\u2029d\x85e<script>"}]
    line = json.dumps({"step": 60, "conversations": strange}, ensure_ascii=False) + "\n"
    with (runs / "base" / "samples.jsonl").open("ab") as samples:
        samples.write(line.encode() + line.encode()[: line.encode().index("\u2029".encode()) + 1])
    say(capsys, "report", "base")
    html = (runs / "base" / "report.html").read_text(encoding="utf-8")
    assert html.count("a\u2028b") == html.count("c\u2029d\x85e&lt;script&gt;") == 1
    say(capsys, "report", "killed", "--out", "killed.html")
    assert "interrupted" in (runs.parent / "killed.html").read_text(encoding="utf-8")


def make_rl_run(path, best=0.9):
    """As `train grpo` leaves one, with a quantity that no curve is made for."""
    make_run(path, stage="grpo")
    lines, samples = [{"step": 0, "tokens": 0, "eval": {"score": 0.4}}], []
    for step in range(1, 41):
        line = {"step": step, "tokens": 50 * step, "loss": 0.0, "reward": 0.5 + step / 80}
        line |= {"reward_correct": 0.4 + step / 80, "reward_ended": 1.0, "approx_kl": 0.001, "entropy": 1.0}
        lines.append(line | {"seconds_rollout": 2.0, "seconds_update": 1.0, "degenerate": step / 40})
        if step % 2 == 0:
            lines.append({"step": step, "tokens": 50 * step, "eval": {"score": best if step == 20 else 0.7}})
    for step in range(0, 41, 2):
        for prompt in ("2 + 3", "4 + 4"):
            said = [{"role": "user", "content": prompt}, {"role": "assistant", "content": f"at {step}"}]
            parts = {"correct": float(step > 10), "ended": 1.0}
            samples.append({"step": step, "conversations": said, "reward": step / 40, "parts": parts})
    for name, written in (("metrics", lines), ("samples", samples)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    return path


def chart_texts(file):
    """Of every chart in a drawing: its title, and what else is written in it."""
    found = {}
    for chart in ET.parse(file).iter("{http://www.w3.org/2000/svg}svg"):
        if title := chart.get("aria-label"):
            found[title] = {node.text for node in chart.iter() if node.text}
    return found


def test_curves_of_reinforcement_learning(runs, capsys):
    """A chart for what belongs together, one for what nobody foresaw, none for what the run does not have."""
    make_rl_run(runs / "grpo")
    page = say(capsys, "plot", "grpo")
    charts = chart_texts(runs / "grpo" / "plots.svg")
    assert list(charts) == [
        "Held-out score", "Reward", "Loss", "KL divergence (nats)", "Entropy (nats)", "Seconds per step",
        "Degenerate",
    ]  # fmt: skip
    assert {"whole", "correct", "ended"} <= charts["Reward"]
    assert {"rollout", "update"} <= charts["Seconds per step"]
    assert "Reward: correct" in page
    make_rl_run(runs / "ppo", best=0.8)
    say(capsys, "plot", "grpo", "ppo")
    charts = chart_texts(runs.parent / "plots.svg")
    assert all({"grpo", "ppo"} <= texts for texts in charts.values())
    assert {"Reward: whole", "Reward: correct", "Seconds per step: update"} <= charts.keys()
    assert "score  0.7 (best 0.9)" in re.sub("  +", "  ", say(capsys, "show", "grpo"))
    lines = [line.split() for line in say(capsys, "compare", "grpo", "ppo").splitlines()]
    assert ["best", "score", "0.9", "0.8"] in lines
    assert "bits" not in [word for line in lines for word in line]


def test_what_the_model_said_and_earned_stands_in_the_report(runs, capsys):
    make_rl_run(runs / "grpo")
    say(capsys, "report", "grpo")
    page = (runs / "grpo" / "report.html").read_text(encoding="utf-8")
    table = page.partition("Answers while it learned")[2].partition("</table>")[0]
    cells = [re.findall(r"<t[dh][^>]*>([^<]*)<", row) for row in re.findall("<tr>(.*?)</tr>", table)]
    assert cells[0] == ["prompt", "step", "answer", "reward", "correct", "ended"]
    assert [row[:3] for row in cells if row[0] == "2 + 3"][:1] == [["2 + 3", "0", "at 0"]]
    assert cells[-1] == ["4 + 4", "40", "at 40", "1", "1", "1"]
    assert len(cells) == 1 + 2 * 8  # of 21 evaluations
    assert "step 40 · reward 1 · correct 1 · ended 1" in page


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["show", "bse"], "no run bse: neither a run directory nor a name in runs/; did you mean base?"),
        (["show", "zzz"], "no run zzz: neither a run directory nor a name in runs/; `minimind runs list` names"),
        (["plot", "base", "--out", "x.png"], "cannot draw x.png: end its name in .svg or .html"),
        (["frobnicate"], "argument COMMAND: invalid choice: 'frobnicate'"),
        ([], "the following arguments are required: COMMAND; see `minimind runs --help`"),
    ],
)
def test_mistakes(runs, capsys, argv, sentence):
    assert say(capsys, *argv, code=2).startswith(f"error: {sentence}")


def test_nothing_to_draw_yet(runs, capsys):
    (runs / "base" / "metrics.jsonl").unlink()
    assert say(capsys, "plot", "base", code=2) == "error: nothing to draw: base wrote no metrics yet\n"
    assert "report.html" in say(capsys, "report", "base")
    assert "100 steps" in say(capsys, "show", "base")


@pytest.mark.parametrize("verb", ["list", "show", "compare", "plot", "report"])
def test_every_verb_has_help_with_an_example(verb, capsys):
    page = say(capsys, verb, "--help")
    assert f"example:\n  minimind runs {verb}" in page
