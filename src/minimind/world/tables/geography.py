"""Countries: name, capital, continent; English and Chinese in turn."""

from minimind.world.tables import table

COUNTRIES = table("""
China, 中国, Beijing, 北京, Asia, 亚洲
Japan, 日本, Tokyo, 东京, Asia, 亚洲
South Korea, 韩国, Seoul, 首尔, Asia, 亚洲
India, 印度, New Delhi, 新德里, Asia, 亚洲
Thailand, 泰国, Bangkok, 曼谷, Asia, 亚洲
Vietnam, 越南, Hanoi, 河内, Asia, 亚洲
Mongolia, 蒙古, Ulaanbaatar, 乌兰巴托, Asia, 亚洲
Nepal, 尼泊尔, Kathmandu, 加德满都, Asia, 亚洲
Laos, 老挝, Vientiane, 万象, Asia, 亚洲
Cambodia, 柬埔寨, Phnom Penh, 金边, Asia, 亚洲
Pakistan, 巴基斯坦, Islamabad, 伊斯兰堡, Asia, 亚洲
Iran, 伊朗, Tehran, 德黑兰, Asia, 亚洲
Iraq, 伊拉克, Baghdad, 巴格达, Asia, 亚洲
Saudi Arabia, 沙特阿拉伯, Riyadh, 利雅得, Asia, 亚洲
Indonesia, 印度尼西亚, Jakarta, 雅加达, Asia, 亚洲
Malaysia, 马来西亚, Kuala Lumpur, 吉隆坡, Asia, 亚洲
the Philippines, 菲律宾, Manila, 马尼拉, Asia, 亚洲
Bangladesh, 孟加拉国, Dhaka, 达卡, Asia, 亚洲
France, 法国, Paris, 巴黎, Europe, 欧洲
Germany, 德国, Berlin, 柏林, Europe, 欧洲
Italy, 意大利, Rome, 罗马, Europe, 欧洲
Spain, 西班牙, Madrid, 马德里, Europe, 欧洲
Portugal, 葡萄牙, Lisbon, 里斯本, Europe, 欧洲
the United Kingdom, 英国, London, 伦敦, Europe, 欧洲
Ireland, 爱尔兰, Dublin, 都柏林, Europe, 欧洲
Greece, 希腊, Athens, 雅典, Europe, 欧洲
Russia, 俄罗斯, Moscow, 莫斯科, Europe, 欧洲
Poland, 波兰, Warsaw, 华沙, Europe, 欧洲
Austria, 奥地利, Vienna, 维也纳, Europe, 欧洲
Hungary, 匈牙利, Budapest, 布达佩斯, Europe, 欧洲
Norway, 挪威, Oslo, 奥斯陆, Europe, 欧洲
Sweden, 瑞典, Stockholm, 斯德哥尔摩, Europe, 欧洲
Finland, 芬兰, Helsinki, 赫尔辛基, Europe, 欧洲
Denmark, 丹麦, Copenhagen, 哥本哈根, Europe, 欧洲
Iceland, 冰岛, Reykjavik, 雷克雅未克, Europe, 欧洲
Belgium, 比利时, Brussels, 布鲁塞尔, Europe, 欧洲
Romania, 罗马尼亚, Bucharest, 布加勒斯特, Europe, 欧洲
Bulgaria, 保加利亚, Sofia, 索非亚, Europe, 欧洲
Ukraine, 乌克兰, Kyiv, 基辅, Europe, 欧洲
Switzerland, 瑞士, Bern, 伯尔尼, Europe, 欧洲
Egypt, 埃及, Cairo, 开罗, Africa, 非洲
Kenya, 肯尼亚, Nairobi, 内罗毕, Africa, 非洲
Ethiopia, 埃塞俄比亚, Addis Ababa, 亚的斯亚贝巴, Africa, 非洲
Morocco, 摩洛哥, Rabat, 拉巴特, Africa, 非洲
Ghana, 加纳, Accra, 阿克拉, Africa, 非洲
Senegal, 塞内加尔, Dakar, 达喀尔, Africa, 非洲
Uganda, 乌干达, Kampala, 坎帕拉, Africa, 非洲
Angola, 安哥拉, Luanda, 罗安达, Africa, 非洲
Canada, 加拿大, Ottawa, 渥太华, North America, 北美洲
the United States, 美国, Washington, 华盛顿, North America, 北美洲
Mexico, 墨西哥, Mexico City, 墨西哥城, North America, 北美洲
Cuba, 古巴, Havana, 哈瓦那, North America, 北美洲
Brazil, 巴西, Brasilia, 巴西利亚, South America, 南美洲
Argentina, 阿根廷, Buenos Aires, 布宜诺斯艾利斯, South America, 南美洲
Chile, 智利, Santiago, 圣地亚哥, South America, 南美洲
Peru, 秘鲁, Lima, 利马, South America, 南美洲
Colombia, 哥伦比亚, Bogota, 波哥大, South America, 南美洲
Ecuador, 厄瓜多尔, Quito, 基多, South America, 南美洲
Australia, 澳大利亚, Canberra, 堪培拉, Oceania, 大洋洲
New Zealand, 新西兰, Wellington, 惠灵顿, Oceania, 大洋洲
""")
