"""Words in English and Chinese, by category. Each word stands once, so every translation has one answer."""

from minimind.world.tables import table

# [English name in the plural, measure word and Chinese name], then the category's words
_TEXT = """
[fruits, 种水果]
apple, 苹果; banana, 香蕉; orange, 橙子; pear, 梨; grape, 葡萄; peach, 桃子; lemon, 柠檬; strawberry, 草莓
watermelon, 西瓜; cherry, 樱桃; mango, 芒果; pineapple, 菠萝; coconut, 椰子; plum, 李子
[vegetables, 种蔬菜]
carrot, 胡萝卜; potato, 土豆; tomato, 西红柿; onion, 洋葱; cabbage, 卷心菜; pumpkin, 南瓜; cucumber, 黄瓜
spinach, 菠菜; garlic, 大蒜; corn, 玉米; mushroom, 蘑菇; bean, 豆子
[foods, 种食物]
bread, 面包; rice, 米饭; noodles, 面条; cake, 蛋糕; soup, 汤; cheese, 奶酪; egg, 鸡蛋; meat, 肉
dumpling, 饺子; biscuit, 饼干; chocolate, 巧克力; honey, 蜂蜜; sugar, 糖; salt, 盐; butter, 黄油
[drinks, 种饮料]
water, 水; milk, 牛奶; tea, 茶; coffee, 咖啡; juice, 果汁; beer, 啤酒; wine, 葡萄酒; lemonade, 柠檬水
[animals, 种动物]
cat, 猫; dog, 狗; horse, 马; rabbit, 兔子; tiger, 老虎; lion, 狮子; monkey, 猴子; elephant, 大象; bear, 熊
fox, 狐狸; wolf, 狼; deer, 鹿; duck, 鸭子; frog, 青蛙; snake, 蛇; turtle, 乌龟; bee, 蜜蜂; ant, 蚂蚁
butterfly, 蝴蝶; bird, 鸟; fish, 鱼; owl, 猫头鹰; whale, 鲸鱼; dolphin, 海豚
[colours, 种颜色]
red, 红色; blue, 蓝色; green, 绿色; yellow, 黄色; white, 白色; black, 黑色; purple, 紫色; pink, 粉色
brown, 棕色; grey, 灰色
[body parts, 个身体部位]
head, 头; hand, 手; foot, 脚; eye, 眼睛; ear, 耳朵; nose, 鼻子; mouth, 嘴巴; tooth, 牙齿; arm, 胳膊; leg, 腿
hair, 头发; heart, 心脏; knee, 膝盖; neck, 脖子; finger, 手指
[pieces of furniture, 件家具]
table, 桌子; chair, 椅子; bed, 床; sofa, 沙发; desk, 书桌; wardrobe, 衣柜; shelf, 架子; bench, 长凳
cupboard, 橱柜
[pieces of clothing, 件衣物]
shirt, 衬衫; trousers, 裤子; skirt, 裙子; shoe, 鞋子; hat, 帽子; sock, 袜子; coat, 外套; scarf, 围巾
glove, 手套; sweater, 毛衣
[vehicles, 种交通工具]
car, 汽车; bus, 公交车; train, 火车; plane, 飞机; bicycle, 自行车; boat, 船; truck, 卡车; taxi, 出租车
subway, 地铁; rocket, 火箭
[jobs, 种职业]
doctor, 医生; teacher, 老师; farmer, 农民; nurse, 护士; driver, 司机; cook, 厨师; pilot, 飞行员
writer, 作家; singer, 歌手; painter, 画家; lawyer, 律师; soldier, 士兵; engineer, 工程师
[places, 个地方]
school, 学校; hospital, 医院; library, 图书馆; park, 公园; bank, 银行; shop, 商店; museum, 博物馆
station, 车站; airport, 机场; hotel, 酒店; restaurant, 餐厅; garden, 花园; farm, 农场; market, 市场
beach, 海滩; village, 村庄; city, 城市; bridge, 桥; street, 街道; kitchen, 厨房; bedroom, 卧室
office, 办公室
[things in nature, 种自然事物]
sun, 太阳; moon, 月亮; star, 星星; cloud, 云; rain, 雨; snow, 雪; wind, 风; mountain, 山; river, 河
sea, 大海; lake, 湖; forest, 森林; tree, 树; flower, 花; grass, 草; stone, 石头; sand, 沙子; fire, 火
island, 岛; desert, 沙漠; sky, 天空; leaf, 叶子; ice, 冰; rainbow, 彩虹; thunder, 雷
[family members, 个家庭成员]
father, 父亲; mother, 母亲; brother, 兄弟; sister, 姐妹; son, 儿子; daughter, 女儿; grandfather, 祖父
grandmother, 祖母; uncle, 叔叔; aunt, 阿姨
[things at school, 种学习用品]
book, 书; pen, 钢笔; pencil, 铅笔; paper, 纸; ruler, 尺子; map, 地图; eraser, 橡皮; schoolbag, 书包
dictionary, 词典; blackboard, 黑板
[things at home, 种家居用品]
door, 门; window, 窗户; lamp, 灯; clock, 时钟; mirror, 镜子; cup, 杯子; bowl, 碗; plate, 盘子; spoon, 勺子
knife, 刀; key, 钥匙; umbrella, 雨伞; bottle, 瓶子; box, 盒子; basket, 篮子; candle, 蜡烛; towel, 毛巾
soap, 肥皂; pillow, 枕头; blanket, 毯子; scissors, 剪刀; telephone, 电话; computer, 电脑; camera, 相机
toy, 玩具; ball, 球; kite, 风筝; gift, 礼物
[musical instruments, 种乐器]
piano, 钢琴; violin, 小提琴; guitar, 吉他; drum, 鼓; flute, 笛子; trumpet, 小号; harp, 竖琴
[sports, 种运动]
football, 足球; basketball, 篮球; tennis, 网球; swimming, 游泳; running, 跑步; skiing, 滑雪; boxing, 拳击
chess, 国际象棋; volleyball, 排球
[verbs, 个动词]
to eat, 吃; to drink, 喝; to sleep, 睡觉; to walk, 走路; to jump, 跳; to read, 阅读; to write, 写
to listen, 听; to speak, 说话; to laugh, 笑; to cry, 哭; to sing, 唱歌; to dance, 跳舞; to help, 帮助
to think, 思考; to remember, 记住; to forget, 忘记; to buy, 买; to sell, 卖; to open, 打开; to wait, 等待
to learn, 学习; to fly, 飞
[adjectives, 个形容词]
beautiful, 美丽; brave, 勇敢; clever, 聪明; kind, 善良; tired, 疲倦; hungry, 饥饿; angry, 生气; happy, 快乐
sad, 悲伤; clean, 干净; quiet, 安静; easy, 容易; difficult, 困难; safe, 安全; dangerous, 危险; famous, 著名
young, 年轻; important, 重要; healthy, 健康; lazy, 懒惰; honest, 诚实; strange, 奇怪
[ideas, 个抽象名词]
friend, 朋友; love, 爱; time, 时间; money, 钱; dream, 梦想; story, 故事; song, 歌曲; question, 问题
answer, 答案; idea, 主意; luck, 运气; peace, 和平; freedom, 自由; knowledge, 知识; science, 科学
music, 音乐; history, 历史; future, 未来; health, 健康状况; world, 世界; language, 语言; number, 数字
name, 名字
"""


def _categories() -> dict[tuple[str, str], list[tuple[str, ...]]]:
    sections = [section.split("]") for section in _TEXT.split("[")[1:]]
    return {(names.split(", ")[0], names.split(", ")[1]): table(words) for names, words in sections}


CATEGORIES = _categories()
WORDS = [row for rows in CATEGORIES.values() for row in rows]

# The categories of plain things, for lists and string games; each has at least seven members.
_LISTED = ("fruits", "vegetables", "foods", "drinks", "animals", "colours", "body parts", "pieces of furniture")
_ALSO_LISTED = ("pieces of clothing", "vehicles", "jobs", "musical instruments", "sports", "family members")
LISTED = {names: rows for names, rows in CATEGORIES.items() if names[0] in _LISTED + _ALSO_LISTED}
