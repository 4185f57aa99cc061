"""Conversion between units of one quantity."""

from __future__ import annotations

import math
from functools import cache

from minimind.tools.tool import ToolError

# quantity: the size of each unit in a common one, then its names.
UNITS = {
    "length": """
        0.001 mm millimeter millimetre 毫米
        0.01 cm centimeter centimetre 厘米
        1 m meter metre 米
        1000 km kilometer kilometre 千米 公里
        0.0254 in inch inches 英寸
        0.3048 ft foot feet 英尺
        0.9144 yd yard 码
        1609.344 mi mile 英里
        1852 nmi 海里
        500 里 华里
    """,
    "mass": """
        0.001 mg milligram 毫克
        1 g gram 克
        1000 kg kilogram 千克 公斤
        1000000 t ton tonne 吨
        28.349523125 oz ounce 盎司
        453.59237 lb lbs pound 磅
        500 斤
        50 两
    """,
    "volume": """
        0.001 ml milliliter millilitre 毫升
        1 l liter litre 升
        1000 m3 m³ 立方米
        3.785411784 gal gallon 加仑
        0.473176473 pint 品脱
        0.2365882365 cup 杯
    """,
    "area": """
        0.0001 cm2 cm² 平方厘米
        1 m2 m² 平方米
        1000000 km2 km² 平方公里 平方千米
        10000 ha hectare 公顷
        4046.8564224 acre 英亩
        666.6666666666666 亩
    """,
    "time": """
        0.001 ms millisecond 毫秒
        1 s sec second 秒 秒钟
        60 min minute 分钟
        3600 h hr hour 小时
        86400 d day 天 日
        604800 week 周 星期
    """,
    "speed": """
        1 m/s 米/秒 米每秒
        0.2777777777777778 km/h kph 公里/小时 千米/时
        0.44704 mph 英里/小时
        0.5144444444444445 kn knot 节
    """,
    "data": """
        1 b byte 字节
        1000 kb kilobyte
        1000000 mb megabyte
        1000000000 gb gigabyte
        1000000000000 tb terabyte
        1024 kib
        1048576 mib
        1073741824 gib
    """,
    "energy": """
        1 j joule 焦耳
        1000 kj kilojoule 千焦
        4.184 cal calorie 卡
        4184 kcal kilocalorie 千卡 大卡
        3600000 kwh 千瓦时 度电
    """,
}
# name: (size of a degree, where it has 0) in kelvin
TEMPERATURES = {
    **dict.fromkeys(("c", "°c", "celsius", "摄氏度", "摄氏"), (1.0, 273.15)),
    **dict.fromkeys(("f", "°f", "fahrenheit", "华氏度", "华氏"), (5 / 9, 273.15 - 32 * 5 / 9)),
    **dict.fromkeys(("k", "kelvin", "开尔文"), (1.0, 0.0)),
}


def convert(value: float, from_unit: str, to_unit: str) -> float:
    """The same amount in another unit, to 10 digits. ToolError for an unknown unit or another quantity."""
    (from_kind, from_size, from_zero), (to_kind, to_size, to_zero) = _find(from_unit), _find(to_unit)
    if from_kind != to_kind:
        raise ToolError(f"{from_unit} is a unit of {from_kind}, {to_unit} one of {to_kind}")
    result = (float(value) * from_size + from_zero - to_zero) / to_size
    if not math.isfinite(result):
        raise ToolError("the value is too large")
    return float(f"{result:.10g}")


def _find(unit: str) -> tuple[str, float, float]:
    name, units = unit.strip().casefold(), _units()
    found = units.get(name) or units.get(name.removesuffix("s"))  # a plural
    if found is None:
        raise ToolError(f"the unit {unit!r} is not known; use one such as km, mile, kg, pound, celsius or hour")
    return found


@cache
def _units() -> dict[str, tuple[str, float, float]]:
    """name -> quantity, size, zero"""
    units = {name: ("temperature", *scale) for name, scale in TEMPERATURES.items()}
    for kind, table in UNITS.items():
        for line in table.strip().splitlines():
            size, *names = line.split()
            units |= {name: (kind, float(size), 0.0) for name in names}
    return units
