"""What time it is somewhere: cities in English and Chinese, and the names of the time zone database."""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from functools import cache

from minimind.tools.tool import ToolError
from minimind.world.tables.geography import COUNTRIES

# Cities that no time zone is named after, and Chinese names of others. Capitals' Chinese names are in COUNTRIES.
CITIES = """
Asia/Shanghai: Beijing, Guangzhou, Shenzhen, Chengdu, Wuhan, Xi'an, Nanjing, Hangzhou, 上海, 广州, 深圳, 成都, 武汉
Asia/Shanghai: 西安, 南京, 杭州
Asia/Hong_Kong: 香港
Asia/Taipei: 台北
Asia/Macau: 澳门
Asia/Singapore: 新加坡
Asia/Dubai: 迪拜
Asia/Tokyo: Osaka, Kyoto, 大阪, 京都
Asia/Kolkata: New Delhi, Delhi, Mumbai, Bangalore, 孟买
Asia/Bangkok: Hanoi
Asia/Karachi: Islamabad
Europe/Zurich: Bern, Geneva, 苏黎世, 日内瓦
Europe/Berlin: Munich, Hamburg, Frankfurt, 慕尼黑, 汉堡, 法兰克福
Europe/Rome: Milan, Venice, 米兰, 威尼斯
Europe/Madrid: Barcelona, 巴塞罗那
Africa/Casablanca: Rabat
America/Toronto: Ottawa, Montreal, 多伦多
America/New_York: Washington, Boston, Miami, 纽约, 波士顿
America/Chicago: Houston, Dallas, 芝加哥
America/Los_Angeles: San Francisco, Seattle, Las Vegas, 洛杉矶, 旧金山, 西雅图
America/Sao_Paulo: Brasilia, Rio de Janeiro, 圣保罗, 里约热内卢
America/Guayaquil: Quito
Pacific/Auckland: Wellington
Australia/Sydney: Canberra, 悉尼
Australia/Melbourne: 墨尔本
"""


def time_in(place: str) -> datetime:
    """The time now in a city or time zone. ToolError where it is not known."""
    zone = _zones().get(_normal(place))
    if zone is None:
        raise ToolError(f"the place {place!r} is not known; give a large city or a time zone (Asia/Tokyo)")
    return datetime.now(zoneinfo.ZoneInfo(zone))


def _normal(place: str) -> str:
    return place.strip().replace("_", " ").casefold()


@cache
def _zones() -> dict[str, str]:
    """Time zones by all names that a place has here."""
    zones = sorted(zoneinfo.available_timezones())
    if not zones:
        raise ToolError("this computer has no time zone database; install the package tzdata")
    names = {_normal(zone.rpartition("/")[2]): zone for zone in zones} | {_normal(zone): zone for zone in zones}
    for line in CITIES.strip().splitlines():
        zone, _, cities = line.partition(": ")
        names |= {_normal(city): zone for city in cities.split(",")}
    return names | {chinese: names[_normal(capital)] for _, _, capital, chinese, *_ in COUNTRIES}
