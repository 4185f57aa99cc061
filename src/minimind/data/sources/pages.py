"""What people write for people, as plain text: Markdown, HTML, PDF. One file is one document."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from statistics import median

from minimind.errors import missing_extra

CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"  # characters that no spaces stand between
BETWEEN_CJK = re.compile(rf"(?<=[{CJK}])[ \t]*\n[ \t]*(?=[{CJK}])")
FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)


def markdown_text(text: str) -> str:
    """Markdown as it is, without what no reader sees: front matter, comments."""
    return COMMENT.sub("", FRONT_MATTER.sub("", text)).strip()


# HTML

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
UNREAD = {"script", "style", "noscript", "template", "head", "nav", "footer", "aside", "form", "button", "select"}
UNREAD |= {"iframe", "object", "svg", "math", "canvas"}
UNREAD_ROLES = ("navigation", "banner", "contentinfo", "search", "complementary", "menu", "dialog")
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
APART = HEADINGS | {"p", "pre", "table"}  # blank lines stand around them
BLOCKS = APART | {
    "address",
    "article",
    "blockquote",
    "body",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figure",
}
BLOCKS |= {"figcaption", "header", "html", "li", "main", "ol", "section", "summary", "tbody", "thead", "tr", "ul"}


def html_charset(head: bytes) -> str | None:
    """The encoding that a page declares, where it is not UTF-8; a page that is UTF-8 all the same is left alone."""
    match = CHARSET.search(head[:4096])
    name = match[1].decode("ascii").lower() if match else "utf-8"
    if name in ("utf-8", "utf8"):
        return None
    try:
        if not head.isascii() and head[: head.rfind(b"\n") + 1 or None].decode():
            return None
    except UnicodeDecodeError:
        pass
    return {"gb2312": "gb18030", "gbk": "gb18030"}.get(name, name)  # pages that say GB2312 use GBK


def html_text(page: str) -> str:
    """A page's text by blocks, headings marked as in Markdown; without scripts, styles, forms and navigation."""
    reader = _HtmlReader()
    reader.feed(page)
    reader.close()
    text = "".join(reader.parts)
    if reader.title and "h1" not in reader.seen:
        text = f"# {' '.join(reader.title.split())}\n\n{text}"
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()


class _HtmlReader(HTMLParser):
    """Collects text; `unread` is the element that is passed over, and how many of its kind are open in it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.unread: tuple[str, int] | None = None
        self.seen: set[str] = set()
        self.title = ""
        self.in_title = False
        self.preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self.in_title = not self.title
        if tag in VOID:
            if tag in ("br", "hr") and not self.unread:
                self._end_line(1)
            return
        if self.unread:
            name, depth = self.unread
            self.unread = (name, depth + (name == tag))
            if name == "head" and tag == "body":  # a head that nobody closed
                self.unread = None
            return
        given = dict(attrs)
        hidden = "hidden" in given or given.get("aria-hidden") == "true" or given.get("role") in UNREAD_ROLES
        if tag in UNREAD or hidden:
            self.unread = (tag, 1)
            return
        self.seen.add(tag)
        self.preformatted += tag == "pre"
        if tag in BLOCKS:
            self._end_line(2 if tag in APART else 1)
        if tag in HEADINGS:
            self.parts.append("#" * int(tag[1]) + " ")
        elif tag == "li":
            self.parts.append("- ")
        elif tag in ("td", "th") and self.parts and not self.parts[-1].endswith("\n"):
            self.parts.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self.in_title = False
        if self.unread:
            name, depth = self.unread
            self.unread = None if depth - (name == tag) == 0 else (name, depth - (name == tag))
            return
        self.preformatted = max(0, self.preformatted - (tag == "pre"))
        if tag in BLOCKS:
            self._end_line(2 if tag in APART else 1)

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.title += data
        elif self.unread:
            return
        elif self.preformatted:
            self.parts.append(data)
        else:
            text = re.sub(r"\s+", " ", BETWEEN_CJK.sub("", data))
            at_start = not self.parts or self.parts[-1].endswith(("\n", " "))
            if text := text.lstrip() if at_start else text:
                self.parts.append(text)

    def _end_line(self, count: int) -> None:
        """End the line, with `count` - 1 blank lines after it; at the very beginning there is none to end."""
        if self.parts:
            tail = "".join(self.parts[-2:])
            missing = count - (len(tail) - len(tail.rstrip("\n")))
            self.parts += ["\n" * missing] * (missing > 0)


# PDF

SENTENCE_END = re.compile(r"""[.!?:;。！？：；…]["'”’」』)）\]]*$""")


def pdf_text(path: Path) -> str:
    """The text of a PDF's pages. UserError where the package is missing; ValueError for a file that is none.

    A PDF knows lines and no paragraphs: lines are joined again, and what heads or foots most pages is left out.
    A scan has pictures of text only, and gives an empty one.
    """
    try:
        import pypdf
    except ImportError:
        raise missing_extra("pypdf", "pdf") from None
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    except Exception as error:  # damaged files raise errors of many kinds
        raise ValueError(str(error) or type(error).__name__) from None
    return join_lines(_without_margins([page.splitlines() for page in pages]))


def _without_margins(pages: list[list[str]]) -> list[str]:
    """All lines, without page numbers and without the first and last lines that stand on most pages."""
    pages = [[line.strip() for line in page if line.strip()] for page in pages]

    def key(line: str) -> str:
        return re.sub(r"\d+", "#", line)

    margins = Counter(key(line) for page in pages for line in {*page[:1], *page[-1:]})
    often = {line for line, count in margins.items() if len(pages) > 2 and 2 * count > len(pages)}

    def is_margin(line: str) -> bool:
        return key(line) in often or re.fullmatch(r"[-–—\s]*\d{1,4}[-–—\s]*", line) is not None

    lines = list[str]()
    for page in pages:
        while page and is_margin(page[0]):
            page.pop(0)
        while page and is_margin(page[-1]):
            page.pop()
        lines += page
    return lines


def join_lines(lines: list[str]) -> str:
    """Lines of a page as paragraphs: one that ends a sentence, or is much shorter than most, ends a paragraph."""
    if not lines:
        return ""
    short = 0.7 * median(map(len, lines))
    text = ""
    for line, following in zip(lines, [*lines[1:], ""]):
        if re.search(r"[a-z]-$", line) and following[:1].islower():
            text += line[:-1]  # a word that was divided
        elif len(line) < short or SENTENCE_END.search(line):
            text += line + "\n"
        else:
            text += line + ("" if re.search(rf"[{CJK}]$", line) and re.match(rf"[{CJK}]", following) else " ")
    return text.strip()
