"""The tools of the public MiniMind's agent data (`agent_rl*.jsonl`), which fixed answers stand behind.

The data's `gt` was computed with them, so the same arguments must give the same values: those of its trainer. Its
unit converter only multiplies; ours converts temperatures rightly, so the `gt` of those questions is out of reach.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from minimind.tools.clock import time_in
from minimind.tools.tool import given
from minimind.tools.units import convert

NOW = datetime(2025, 3, 7, 6, 30, tzinfo=UTC)
WEATHER = {  # degrees Celsius, condition
    **{"北京": (28, "晴"), "上海": (15, "多云"), "广州": (32, "闷热"), "深圳": (30, "晴"), "杭州": (22, "阴")},
    **{"成都": (18, "小雨"), "武汉": (25, "多云"), "南京": (20, "晴"), "西安": (16, "大风"), "重庆": (26, "阴")},
    **{"Tokyo": (12, "晴"), "New York": (8, "多云"), "London": (5, "小雨"), "Paris": (10, "阴")},
    "Sydney": (25, "晴朗"),
}
RATES = {
    **{("USD", "CNY"): 7.21, ("EUR", "CNY"): 7.85, ("GBP", "CNY"): 9.12, ("JPY", "CNY"): 0.048},
    **{("USD", "EUR"): 0.92, ("USD", "GBP"): 0.79, ("CNY", "JPY"): 20.83, ("AUD", "CNY"): 4.72},
}
TRANSLATIONS = {
    ("你好世界", "english"): "Hello World",
    ("Good morning", "chinese"): "早上好",
    ("今天天气真好", "english"): "The weather is nice today",
    ("I love programming", "chinese"): "我喜欢编程",
    ("机器学习很有趣", "english"): "Machine learning is interesting",
    ("Happy birthday", "chinese"): "生日快乐",
}


def _weather(arguments: dict[str, Any]) -> dict[str, Any]:
    city = given(arguments, "location")
    degrees, condition = WEATHER.get(city, (22, "晴"))
    return {"city": city, "temperature": f"{degrees}°C", "humidity": "65%", "condition": condition}


def _time(arguments: dict[str, Any]) -> dict[str, Any]:
    zone = arguments.get("timezone", "Asia/Shanghai")
    return {"datetime": f"{NOW.astimezone(time_in(zone).tzinfo):%Y-%m-%d %H:%M:%S}", "timezone": zone}


def _rate(arguments: dict[str, Any]) -> dict[str, Any]:
    one, other = given(arguments, "from_currency"), given(arguments, "to_currency")
    return {"from": one, "to": other, "rate": RATES.get((one, other), 1.0)}


def _translation(arguments: dict[str, Any]) -> dict[str, Any]:
    text, language = given(arguments, "text"), given(arguments, "target_language")
    return {"translated_text": TRANSLATIONS.get((text, language), text)}


def _converted(arguments: dict[str, Any]) -> dict[str, Any]:
    value, *units = (given(arguments, name) for name in ("value", "from_unit", "to_unit"))
    return {"result": round(convert(value, *units), 4)}


PUBLIC: dict[str, Callable[[dict[str, Any]], Any]] = {
    "get_current_weather": _weather,
    "get_current_time": _time,
    "get_exchange_rate": _rate,
    "translate_text": _translation,
    "unit_converter": _converted,
}
