"""How answers are verified, by each check."""

import json
import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.rl.rewards.checks import as_number, last_number, make_grade
from minimind.rl.rewards.sandbox import passed


def is_right(answer, *gt, check="", **more):
    return make_grade(gt, check, **more)(answer)


@pytest.mark.parametrize(
    ("answer", "gt", "right"),
    [
        ("It takes 4 + 3 = 7 days.", "7", 1),
        ("7 days, that is 4 + 3", "7", 0),  # the last number counts
        ("The sum is 1,234.50 dollars", "1234.5", 1),
        ("4 * 3\n#### 12", "12", 1),
        ("#### 12 (not 13)", "13", 1),
        (r"\boxed{12} and not 13", "12", 1),
        (r"so \boxed{\frac{1}{2}} = 0.5", "12", 0),
        ("It is −47", "-47", 1),
        ("17-3 = 14, 17-3", "3", 1),  # a difference has no negative number in it
        ("答案是５０", "50", 1),
        ("25%", "0.25", 1),
        ("It is 3/4.", "0.75", 1),
        ("It is 3/0.", "0.75", 0),
        ("none", "7", 0),
        ("", "7", 0),
        ("It is 7.0.", "7", 1),
        ("It is 70", "7", 0),
    ],
)
def test_numbers(answer, gt, right):
    assert is_right(answer, gt) == right


@given(st.integers(-(10**12), 10**12), st.integers(0, 3))
def test_a_number_is_found_however_it_is_written(value, decimals):
    text = f"{value:,}" + ("." + "0" * decimals if decimals else "")
    assert as_number(text) == value
    assert as_number(last_number(f"From 3 to 5 it is {text}. ")) == value


@given(st.text(max_size=40))
def test_what_is_found_is_a_number(text):
    found = last_number(text)
    assert found is None or as_number(found) is not None or "/" in found


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("C", 1),
        ("Answer: C) 8.4 %", 1),
        ("The answer is (C), not A", 1),
        ("A is wrong, B too; it must be C", 1),
        (r"\boxed{C}", 1),
        ("选C。A 不对", 1),
        ("Answer C is the correct option", 1),
        ("Ans - B", 0),
        ("A Cat", 0),
        ("", 0),
    ],
)
def test_choices(answer, right):
    assert is_right(answer, "C") == right


@pytest.mark.parametrize(
    ("answer", "gt", "check", "right"),
    [
        ("Paris.", ["paris"], "", 1),
        ("The capital is Paris", ["Paris"], "", 1),
        ("Rome", ["Paris"], "", 0),
        ("Alice is 9 and likes tea", ["Alice", "tea"], "", 1),  # several: the share of them
        ("Alice is 9", ["Alice", "tea"], "", 1 / 2),
        ("It is 28°C, that is 1,250.0 in all, 晴", ["28", "1250", "晴", "7.5"], "all", 3 / 4),
        ("It is 128", ["28"], "all", 0),
        ("It is Paris", ["Paris"], "exact", 0),
        ("ab12", [r"[a-z]+\d+"], "regex", 1),
        ("ab12.", [r"[a-z]+\d+"], "regex", 0),
    ],
)
def test_text(answer, gt, check, right):
    assert is_right(answer, *gt, check=check) == right


SCHEMA = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer", "minimum": 0}}}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"age": 3}', 1),
        ('```json\n{"age": 3}\n```', 1),
        ('{"age": -3}', 0),
        ('{"name": "x"}', 0),
        ("age 3", 0),
        ('{"age": 3} as you asked', 0),
    ],
)
def test_json_that_fits_a_schema(answer, right):
    assert is_right(answer, json.dumps(SCHEMA), check="json_schema") == right


def test_thoughts_do_not_count_and_a_call_is_no_answer():
    assert is_right("8 or 9</think>It is 7", "7", think=True) == 1
    assert is_right("It is 7", "7", think=True) == 0
    assert is_right('7<tool_call>{"name": "f", "arguments": {}}</tool_call>', "7") == 0


def test_without_ground_truth_nothing_is_right():
    assert is_right("anything") == 0


@pytest.mark.parametrize(
    ("gt", "check", "why"),
    [
        (["x"], "number", "gt 'x' is no number"),
        (["("], "regex", "gt is no regular expression"),
        (["{"], "json_schema", "gt is no JSON schema"),
        (["x"], "nubmer", "there is no check nubmer; there are number, all, choice, "),
    ],
)
def test_ground_truth_that_cannot_be_used(gt, check, why):
    with pytest.raises(ValueError, match=why.replace("(", r"\(")):
        make_grade(gt, check)


# ----------------------------------------------------------------------------------------------- code

DOUBLE = "def double(x):\n    return 2 * x\n"
TESTS = ["assert double(2) == 4", "assert double('a') == 'aa'", "assert double(1) == 3"]


def test_code_is_tested():
    assert passed(DOUBLE, tuple(TESTS)) == (True, True, False)
    assert is_right(f"Here it is:\n```python\n{DOUBLE}```\n", *TESTS[:2], check="unit_tests") == 1
    assert is_right(DOUBLE, *TESTS, check="unit_tests") == 0


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "x = bytearray(4 << 30)",
        "x = 'a'\nwhile True:\n    x += x",
        "raise ValueError",
        "def f(:",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.fork()",
        "import ctypes; ctypes.CDLL(None)",
    ],
)
def test_code_that_ends_grows_or_leaves_passes_nothing(code):
    assert passed(code, ("pass", "pass")) == (False, False)


def test_the_system_itself_refuses_files_and_processes():
    tests = [f"assert resource.getrlimit(resource.RLIMIT_{name}) == (0, 0)" for name in ("FSIZE", "NPROC")]
    assert passed("import resource", tuple(tests)) == (True, True)


def test_an_endless_loop_is_ended():
    start = time.monotonic()
    assert passed("while True:\n    pass", ("pass",)) == (False,)
    assert time.monotonic() - start < 60


def test_code_has_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"
        assert passed(code, ("pass",)) == (False,)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    guarded = (
        "import socket\ntry:\n    socket.socket()\n    made = True\nexcept PermissionError:\n    made = False\n"
    )
    assert passed(guarded, ("assert not made",)) == (True,)


def test_code_neither_writes_nor_deletes_nor_sees_our_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMIND_API_KEY", "secret")
    kept = tmp_path / "kept"
    kept.write_text("precious")
    for code in (
        f"open({str(kept)!r}, 'w').write('x')",
        f"import os; os.remove({str(kept)!r})",
        f"import os; os.open({str(kept)!r}, os.O_WRONLY | os.O_TRUNC)",
        f"import pathlib; pathlib.Path({str(tmp_path / 'new')!r}).touch()",
        f"import os; os.rename({str(kept)!r}, {str(tmp_path / 'moved')!r})",
    ):
        assert passed(code, ("pass",)) == (False,), code
    assert os.listdir(tmp_path) == ["kept"]
    assert kept.read_text() == "precious"
    seen = "import os\nkey = os.environ.get('MINIMIND_API_KEY')\nhere = os.listdir('.')"
    assert passed(seen, ("assert key is None", "assert here == []")) == (True, True)
