"""Chemical elements and units of measure."""

from minimind.world.tables import table

# English, Chinese, symbol, atomic number
ELEMENTS = table("""
hydrogen, 氢, H, 1; helium, 氦, He, 2; lithium, 锂, Li, 3; beryllium, 铍, Be, 4; boron, 硼, B, 5
carbon, 碳, C, 6; nitrogen, 氮, N, 7; oxygen, 氧, O, 8; fluorine, 氟, F, 9; neon, 氖, Ne, 10
sodium, 钠, Na, 11; magnesium, 镁, Mg, 12; aluminium, 铝, Al, 13; silicon, 硅, Si, 14
phosphorus, 磷, P, 15; sulfur, 硫, S, 16; chlorine, 氯, Cl, 17; argon, 氩, Ar, 18; potassium, 钾, K, 19
calcium, 钙, Ca, 20; titanium, 钛, Ti, 22; chromium, 铬, Cr, 24; manganese, 锰, Mn, 25; iron, 铁, Fe, 26
cobalt, 钴, Co, 27; nickel, 镍, Ni, 28; copper, 铜, Cu, 29; zinc, 锌, Zn, 30; arsenic, 砷, As, 33
bromine, 溴, Br, 35; krypton, 氪, Kr, 36; silver, 银, Ag, 47; tin, 锡, Sn, 50; iodine, 碘, I, 53
barium, 钡, Ba, 56; tungsten, 钨, W, 74; platinum, 铂, Pt, 78; gold, 金, Au, 79; mercury, 汞, Hg, 80
lead, 铅, Pb, 82
""")

# part and whole in English, part and whole in Chinese, how many parts make a whole
UNITS = table("""
seconds, a minute, 秒, 一分钟, 60
minutes, an hour, 分钟, 一小时, 60
hours, a day, 小时, 一天, 24
days, a week, 天, 一个星期, 7
months, a year, 个月, 一年, 12
days, a common year, 天, 一个平年, 365
days, a leap year, 天, 一个闰年, 366
years, a century, 年, 一个世纪, 100
years, a decade, 年, 一个年代, 10
seasons, a year, 个季节, 一年, 4
millimetres, a centimetre, 毫米, 一厘米, 10
centimetres, a metre, 厘米, 一米, 100
metres, a kilometre, 米, 一公里, 1000
grams, a kilogram, 克, 一公斤, 1000
kilograms, a tonne, 公斤, 一吨, 1000
millilitres, a litre, 毫升, 一升, 1000
degrees, a right angle, 度, 一个直角, 90
degrees, a full circle, 度, 一个整圆, 360
sides, a triangle, 条边, 一个三角形, 3
sides, a square, 条边, 一个正方形, 4
sides, a hexagon, 条边, 一个六边形, 6
eggs, a dozen, 个鸡蛋, 一打, 12
""")
