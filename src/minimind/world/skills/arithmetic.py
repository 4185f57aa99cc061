"""Sums and differences of two-digit numbers.

A sum x + y = t and its relatives (y + x, t − x, t − y) form one family, known by {x, y}. A tenth of the families is
kept for evaluation, and nothing the world says for training uses one of them, in any wording.
"""

from __future__ import annotations

from minimind.world.rng import Rng, held_out
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills.openings import opening
from minimind.world.tables import listed
from minimind.world.tables.people import NAMES

THINGS = {
    "en": listed("apples; pears; books; pens; eggs; cups; stones; flowers; shells; cards; stamps; balls"),
    "zh": listed("个苹果; 个梨; 本书; 支笔; 个鸡蛋; 个杯子; 块石头; 朵花; 个贝壳; 张卡片; 张邮票; 个球"),
}
ASKED = {
    ("en", "+"): listed("""
        What is {x} + {y}?; {x} + {y} = ?; Calculate {x} + {y}.; Add {x} and {y}.; How much is {x} plus {y}?
        What is the sum of {x} and {y}?; Work out {x} plus {y}.; {x} plus {y}
        {name} has {x} {things} and gets {y} more. How many {things} does {name} have now?
        {name} finds {x} {things} in the morning and {y} in the afternoon. How many is that?
    """),
    ("en", "-"): listed("""
        What is {x} - {y}?; {x} - {y} = ?; Calculate {x} - {y}.; Subtract {y} from {x}.
        How much is {x} minus {y}?; Take {y} away from {x}.; Work out {x} minus {y}.; {x} minus {y}
        {name} has {x} {things} and gives away {y}. How many {things} are left?
        There were {x} {things}. {name} took {y}. How many are left?
    """),
    ("zh", "+"): listed("""
        {x} + {y} 等于多少？; {x} + {y} = ?; 计算 {x} + {y}。; {x} 加 {y} 等于几？; {x} 加上 {y} 是多少？
        {x} 与 {y} 的和是多少？; 算一算 {x} 加 {y}。; 求 {x} 与 {y} 的和。
        {name}有 {x} {things}，又得到 {y} {things[0]}，现在一共有多少{things}？
        {name}上午找到 {x} {things}，下午找到 {y} {things[0]}，一共多少{things[0]}？
    """),
    ("zh", "-"): listed("""
        {x} - {y} 等于多少？; {x} - {y} = ?; 计算 {x} - {y}。; {x} 减 {y} 等于几？; {x} 减去 {y} 是多少？
        {x} 与 {y} 的差是多少？; 算一算 {x} 减 {y}。; 求 {x} 与 {y} 的差。
        {name}有 {x} {things}，送出 {y} {things[0]}，还剩多少{things}？
        原来有 {x} {things}，{name}拿走 {y} {things[0]}，还剩多少{things[0]}？
    """),
}

# The kept families in both orders, made once: this is asked for every line of arithmetic.
KEPT = frozenset(
    (a, b) for x in range(100) for y in range(max(x, 10), 100) if held_out("sum", x, y) for a, b in ((x, y), (y, x))
)


def is_kept(x: int, operator: str, y: int) -> bool:
    """Whether x + y or x − y belongs to a family kept for evaluation."""
    return ((x, y) if operator == "+" else (y, x - y)) in KEPT


def operands(rng: Rng, kept: bool = False) -> tuple[int, str, int, int]:
    """(x, operator, y, result) with two-digit x and y and no negative result."""
    while True:
        operator = "+" if rng.random() < 0.5 else "-"
        x, y = rng.between(10, 99), rng.between(10, 99)
        if operator == "-" and x < y:
            x, y = y, x
        if is_kept(x, operator, y) == kept:
            return x, operator, y, x + y if operator == "+" else x - y


def steps(x: int, operator: str, y: int, lang: str) -> str:
    """How the result is found digit by digit. It speaks of sums of one-digit numbers only, which are never kept."""
    (tens_x, ones_x), (tens_y, ones_y) = divmod(x, 10), divmod(y, 10)
    carry = lend = 0
    if operator == "+":
        carry, digit = divmod(ones_x + ones_y, 10)
        first = f"{ones_x} + {ones_y} = {ones_x + ones_y}"
        second = f"{tens_x} + {tens_y}" + (" + 1" if carry else "") + f" = {tens_x + tens_y + carry}"
        tens = tens_x + tens_y + carry
    else:
        lend = int(ones_x < ones_y)
        digit = ones_x + 10 * lend - ones_y
        first = f"{ones_x + 10 * lend} - {ones_y} = {digit}"
        tens = tens_x - lend - tens_y
        second = f"{tens_x}" + (" - 1" if lend else "") + f" - {tens_y} = {tens}"
    result = 10 * tens + digit
    if lang == "zh":
        note = "，进一" if carry else "，借一" if lend else ""
        return f"个位：{first}{note}。十位：{second}。所以是 {result}。"
    note = ", carry 1" if carry else ", borrow 1" if lend else ""
    return f"Ones: {first}{note}. Tens: {second}. So it is {result}."


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    x, operator, y, result = operands(rng, held_out)
    wording = rng.pick(ASKED[lang, operator])
    question = wording.format(x=x, y=y, name=rng.pick(NAMES[lang]), things=rng.pick(THINGS[lang]))
    messages = [user(opening(rng, lang, 0.1) + question), assistant(f"{x} {operator} {y} = {result}")]
    return Sample("arithmetic", lang, messages, [str(result)])


def reasoned(rng: Rng, lang: str) -> Sample:
    """The same for training only, with the steps as `reasoning_content`."""
    x, operator, y, result = operands(rng)
    question = rng.pick(ASKED[lang, operator][:8]).format(x=x, y=y)
    answer = assistant(f"{x} {operator} {y} = {result}", reasoning_content=steps(x, operator, y, lang))
    return Sample("arithmetic", lang, [user(question), answer], [str(result)])
