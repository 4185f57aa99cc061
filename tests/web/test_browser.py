"""A real browser before a real server: every page, wide and narrow, in both languages, light and dark."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import free_port

pytest.importorskip("streamlit")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

PATIENCE = 60_000  # milliseconds; a fraction is enough on an idle machine
TITLES = {"en": ["Chat", "Runs", "Data", "Models"], "zh": ["对话", "训练", "数据", "模型"]}
# The talker's answer cannot be empty: no token that ends it is among those that its first is drawn from.
QUESTION = "old dog"
ASK = "[data-testid=stChatInputTextArea]"


@pytest.fixture(scope="module")
def address(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log"
    (log.parent / "mine.py").write_text('def greet(name: str) -> str:\n    "Greet"\n    return name\n')
    tools = ["--tools", str(log.parent / "mine.py")]
    command = [sys.executable, "-m", "minimind", "web", "--runs", str(runs), "--port", port, *tools]
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "HOME": str(log.parent)}
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/_stcore/health", server)
        yield address
        said = log.read_text()
        assert address in said
        assert "Traceback" not in said, said
    finally:
        server.send_signal(signal.SIGINT)  # as Ctrl-C does
        assert server.wait(30) == 0


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.poll() is None, "the server ended"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.1)
    raise TimeoutError(url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Any]:
    """`visit(width, language, scheme)`: the first page, opened by somebody new; closed after the test."""
    visits: list[Visit] = []

    def open_(width: int, language: str, scheme: str) -> Visit:
        visits.append(Visit(browser, address, width, language, scheme))
        return visits[-1]

    yield open_
    for one in visits:
        one.context.close()


class Visit:
    """A page in the browser, and what went wrong on it."""

    def __init__(self, browser: Any, address: str, width: int, language: str, scheme: str) -> None:
        locale = {"en": "en-US", "zh": "zh-CN"}[language]
        size = {"width": width, "height": 860}
        self.context = browser.new_context(viewport=size, locale=locale, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requested(request.url, address))
        self.page.goto(address)
        self.page.wait_for_selector(ASK)
        self.settle()

    def requested(self, url: str, address: str) -> None:
        if not url.startswith((address, address.replace("http", "ws", 1), "data:", "blob:")):
            self.faults.append(f"asked outside: {url}")

    def settle(self) -> None:
        """Wait until the script has run and everything is drawn."""
        self.page.wait_for_function(
            "document.querySelector('[data-test-script-state]')?.dataset.testScriptState === 'notRunning'"
            " && !document.querySelector('[data-stale=true]')"
        )

    def go(self, title: str) -> None:
        if (expand := self.page.get_by_test_id("stExpandSidebarButton")).is_visible():  # on a narrow page
            expand.click()
        self.page.get_by_test_id("stSidebarNavLink").filter(has_text=title).click()
        self.page.wait_for_selector(f"h1:has-text('{title}')")
        self.settle()

    def ask(self, text: str, turns: int) -> None:
        """Say something, and wait for the answer and what stands below it."""
        self.page.fill(ASK, text)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(".st-key-again")
        answers = self.page.get_by_test_id("stChatMessage")
        playwright.expect(answers).to_have_count(2 * turns, timeout=PATIENCE)
        self.settle()
        below = answers.last.get_by_test_id("stCaptionContainer")
        playwright.expect(below).to_contain_text("token", timeout=PATIENCE)

    def check(self) -> None:
        """No exception, nothing wider than the window, nothing asked of another server."""
        wide, window = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= window
        assert not self.page.get_by_test_id("stException").count()
        assert not self.page.get_by_test_id("stAlertContentError").count()
        assert not self.faults


@pytest.mark.parametrize(
    ("width", "language", "scheme"),
    [(1280, "en", "light"), (390, "zh", "dark"), (1280, "zh", "dark"), (390, "en", "light")],
)
def test_every_page(visit: Any, width: int, language: str, scheme: str) -> None:
    visit = visit(width, language, scheme)
    page = visit.page
    _, runs, data, models = TITLES[language]
    visit.ask(QUESTION, 1)
    visit.check()
    ground = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")
    for title, drawn, count in [
        (runs, "[data-testid=stVegaLiteChart] svg.marks", 5),
        (data, ".packed .row", 10),
        (models, ".heads img", 4),
    ]:
        visit.go(title)
        page.wait_for_function(f"document.querySelectorAll('{drawn}').length >= {count}")
        visit.check()


def test_a_conversation_survives_a_reload_in_its_browser_only(visit: Any, address: str) -> None:
    one, other = visit(1280, "en", "light"), visit(390, "zh", "dark")
    one.ask(QUESTION, 1)
    said = one.page.get_by_test_id("stChatMessage").last.inner_text()
    one.page.reload()
    one.page.wait_for_selector(".st-key-again")
    one.settle()
    assert one.page.get_by_test_id("stChatMessage").last.inner_text() == said
    one.check()
    other.page.goto(one.page.url)  # the same address in another browser
    other.page.wait_for_selector(ASK)
    other.settle()
    assert not other.page.get_by_test_id("stChatMessage").count()
    one.page.goto(address)  # a new tab finds it in the list
    one.page.locator("[class*=st-key-open-]").get_by_text(QUESTION).click()
    one.page.wait_for_selector(".st-key-again")
    assert one.page.get_by_test_id("stChatMessage").last.inner_text() == said


def test_an_answer_is_copied(visit: Any, address: str) -> None:
    visit = visit(1280, "en", "light")
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    visit.ask(QUESTION, 1)
    answer = visit.page.get_by_test_id("stChatMessage").last
    answer.get_by_role("button", name="Copy").click()
    playwright.expect(answer.get_by_role("button", name="Copied")).to_be_visible(timeout=PATIENCE)
    copied = visit.page.evaluate("navigator.clipboard.readText()")
    shown = answer.get_by_test_id("stMarkdown").first.inner_text()
    assert re.findall("[a-z]+", copied) == re.findall("[a-z]+", shown) != []  # but for signs of Markdown
    visit.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as over plain HTTP
    visit.page.evaluate("document.execCommand = (name) => window.executed = [name, document.activeElement.value]")
    answer.get_by_role("button", name="Copy").click()
    playwright.expect(answer.get_by_role("button", name="Copied")).to_be_visible(timeout=PATIENCE)
    assert visit.page.evaluate("window.executed") == ["copy", copied]
    visit.check()


def test_answers_side_by_side_use_a_wide_screen(visit: Any) -> None:
    visit = visit(1900, "en", "light")
    page = visit.page
    for name in ("twin", "base"):
        page.get_by_test_id("stMultiSelect").first.locator("input").click()
        page.get_by_role("option", name=name).first.click()
        page.keyboard.press("Escape")
        visit.settle()
    page.fill(ASK, QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector(".st-key-again")
    visit.settle()
    for width, columns, narrowest in ((1900, 3, 420), (1280, 2, 300), (390, 1, 300)):
        page.set_viewport_size({"width": width, "height": 860})
        visit.settle()
        boxes = [one.bounding_box() for one in page.locator("[class*=st-key-answers-] .stColumn").all()]
        assert len({round(box["x"]) for box in boxes}) == columns
        assert min(box["width"] for box in boxes) >= narrowest
        visit.check()


def test_probabilities_and_another_language(visit: Any) -> None:
    visit = visit(1280, "en", "light")
    visit.ask(QUESTION, 1)
    visit.page.get_by_text("Show probabilities").click()
    visit.page.locator(".tokens .token").nth(2).hover()
    playwright.expect(visit.page.locator(".tip:visible .row")).not_to_have_count(0, timeout=PATIENCE)
    visit.page.get_by_text("中文").click()
    visit.page.wait_for_selector("text=新对话")
    visit.check()
    assert visit.page.locator(".tokens .token").count() > 2  # the conversation is still there


def test_tools_named_at_the_start_can_be_chosen(visit: Any) -> None:
    visit = visit(1280, "en", "light")
    tools = visit.page.get_by_test_id("stMultiSelect").filter(has_text="Tools")
    tools.locator("input").fill("greet")
    playwright.expect(visit.page.get_by_role("option", name="greet")).to_be_visible(timeout=PATIENCE)
    tools.locator("input").press("Enter")
    playwright.expect(tools).to_contain_text("greet", timeout=PATIENCE)
    visit.settle()
    visit.check()


class Endless(BaseHTTPRequestHandler):
    """A model that never ends by itself, nor its thinking where it is to ponder."""

    def do_GET(self) -> None:
        self.begin()
        self.wfile.write(json.dumps({"data": [{"id": "endless"}]}).encode())

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        self.begin()
        part = "reasoning_content" if b"ponder" in asked else "content"
        event = json.dumps({"choices": [{"index": 0, "delta": {part: "on and "}}]})
        with contextlib.suppress(OSError):  # until nobody listens any more
            while True:
                self.wfile.write(f"data: {event}\n\n".encode())
                time.sleep(0.02)

    def begin(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def test_stop_ends_an_answer_of_a_server(visit: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        visit = visit(1280, "en", "dark")
        page = visit.page
        page.get_by_text("A server's models").click()
        page.get_by_label("Address").fill(f"http://127.0.0.1:{server.server_port}/v1")
        page.keyboard.press("Enter")
        visit.settle()
        page.get_by_test_id("stMultiSelect").first.locator("input").click()
        page.get_by_role("option", name="endless").click()
        page.keyboard.press("Escape")
        visit.settle()
        page.fill(ASK, "go on")
        page.keyboard.press("Enter")
        answer = page.get_by_test_id("stChatMessage").last
        playwright.expect(answer).to_contain_text("on and on and", timeout=PATIENCE)
        page.locator(".st-key-stop button").click()
        page.wait_for_selector(".st-key-again")
        playwright.expect(answer).to_contain_text("on and on and")
        playwright.expect(answer.get_by_test_id("stCaptionContainer")).to_contain_text("stopped")
        page.reload()
        page.wait_for_selector(".st-key-again")
        answer = page.get_by_test_id("stChatMessage").last
        playwright.expect(answer).to_contain_text("on and on and")
        playwright.expect(answer.get_by_test_id("stCaptionContainer")).to_contain_text("stopped")
        page.fill(ASK, "ponder")
        page.keyboard.press("Enter")
        playwright.expect(page.get_by_test_id("stChatMessage")).to_have_count(6, timeout=PATIENCE)
        thought = page.get_by_test_id("stChatMessage").last.get_by_test_id("stExpander")
        playwright.expect(thought).to_contain_text("Thinking", timeout=PATIENCE)
        page.locator(".st-key-stop button").click()
        playwright.expect(thought).to_contain_text("Thinking · stopped", timeout=PATIENCE)
        visit.settle()
        visit.check()
        server.shutdown()
