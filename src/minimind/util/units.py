"""Figures in the units that a person reads. Results for programs (`--json`, files) keep the plain numbers."""

from __future__ import annotations

import math
from datetime import datetime


def duration(seconds: float) -> str:
    """Write a time in two units at most: 0.4 s, 42 s, 5 min 08 s, 1 h 02 min, 3 d 04 h."""
    if not math.isfinite(seconds):
        return "?"
    if abs(seconds) < 9.95:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {whole:02} s" if minutes else f"{whole} s"


def size_text(count: float) -> str:
    """Write bytes: 1.62 GB."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def number_text(value: float) -> str:
    """Write a figure: 12,345; of a fraction four digits."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def short(value: float) -> str:
    """Write a number in little room: 1200 is 1.2k, 0.00001 is 1e-5."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}".replace("e-0", "e-") if value else "0"


def date_text(timestamp: float) -> str:
    """Write seconds since 1970 as local date and time: 2026-11-30 19:04:49."""
    try:
        return datetime.fromtimestamp(timestamp).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # no year of the calendar
        return "?"
