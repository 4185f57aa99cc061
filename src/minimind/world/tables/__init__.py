"""What the world knows: plain tables, written by hand."""


def table(text: str) -> list[tuple[str, ...]]:
    """The rows of a hand-written table: one row a line (or several, parted by `;`), columns parted by commas."""
    rows = text.replace(";", "\n").strip().splitlines()
    return [tuple(cell.strip() for cell in row.split(",")) for row in rows if row.strip()]


def listed(text: str) -> tuple[str, ...]:
    """The entries of a hand-written list, parted by semicolons and line ends."""
    return tuple(entry.strip() for entry in text.replace("\n", ";").split(";") if entry.strip())
