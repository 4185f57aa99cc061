"""Colours, opposites, the calendar, tools and jobs; English and Chinese in turn."""

from minimind.world.tables import table

COLORED = table("""
grass, 草, green, 绿色; snow, 雪, white, 白色; the clear sky, 晴朗的天空, blue, 蓝色
blood, 血液, red, 红色; coal, 煤, black, 黑色; a lemon, 柠檬, yellow, 黄色; milk, 牛奶, white, 白色
chocolate, 巧克力, brown, 棕色; an eggplant, 茄子, purple, 紫色; a carrot, 胡萝卜, orange, 橙色
a leaf in spring, 春天的叶子, green, 绿色; a crow's feather, 乌鸦的羽毛, black, 黑色
salt, 盐, white, 白色; a ripe banana, 熟香蕉, yellow, 黄色; a flamingo, 火烈鸟, pink, 粉色
an elephant's skin, 大象的皮肤, grey, 灰色; ash, 灰烬, grey, 灰色; a ripe strawberry, 熟草莓, red, 红色
spinach, 菠菜, green, 绿色; tree bark, 树皮, brown, 棕色; a fire engine, 消防车, red, 红色
the sea, 大海, blue, 蓝色; a sunflower, 向日葵, yellow, 黄色; rice, 大米, white, 白色
a pumpkin, 南瓜, orange, 橙色; a cucumber, 黄瓜, green, 绿色; lavender, 薰衣草, purple, 紫色
the night sky, 夜空, black, 黑色; a peach blossom, 桃花, pink, 粉色; soil, 泥土, brown, 棕色
a duckling, 小鸭子, yellow, 黄色; cotton, 棉花, white, 白色
""")

# Each pair is asked in both directions; no word stands twice in a column pair.
OPPOSITES = table("""
big, small, 大, 小; hot, cold, 热, 冷; tall, short, 高, 矮; fast, slow, 快, 慢; new, old, 新, 旧
happy, sad, 快乐, 悲伤; open, closed, 开, 关; day, night, 白天, 黑夜; black, white, 黑, 白
rich, poor, 富, 穷; strong, weak, 强, 弱; hard, soft, 硬, 软; light, heavy, 轻, 重; near, far, 近, 远
early, late, 早, 晚; wet, dry, 湿, 干; full, empty, 满, 空; clean, dirty, 干净, 肮脏; up, down, 上, 下
left, right, 左, 右; inside, outside, 里面, 外面; true, false, 真, 假; easy, difficult, 容易, 困难
thick, thin, 厚, 薄; long, brief, 长, 短; loud, quiet, 吵闹, 安静; safe, dangerous, 安全, 危险
deep, shallow, 深, 浅; sweet, bitter, 甜, 苦; win, lose, 赢, 输; buy, sell, 买, 卖; push, pull, 推, 拉
front, back, 前, 后
""")

MONTHS = table("""
January, 一月, 31; February, 二月, 28; March, 三月, 31; April, 四月, 30; May, 五月, 31; June, 六月, 30
July, 七月, 31; August, 八月, 31; September, 九月, 30; October, 十月, 31; November, 十一月, 30
December, 十二月, 31
""")

WEEKDAYS = table("""
Monday, 星期一; Tuesday, 星期二; Wednesday, 星期三; Thursday, 星期四; Friday, 星期五; Saturday, 星期六
Sunday, 星期日
""")

# what is done, with which tool
TOOLS = table("""
cut paper, 剪纸, scissors, 剪刀; drive in a nail, 钉钉子, a hammer, 锤子
write on paper, 在纸上写字, a pen, 笔; sweep the floor, 扫地, a broom, 扫帚; eat soup, 喝汤, a spoon, 勺子
dig a hole, 挖坑, a shovel, 铲子; comb hair, 梳头, a comb, 梳子; open a lock, 开锁, a key, 钥匙
clean teeth, 刷牙, a toothbrush, 牙刷; see far stars, 看远处的星星, a telescope, 望远镜
measure length, 量长度, a ruler, 尺子; take photos, 拍照, a camera, 相机
sew clothes, 缝衣服, a needle, 针; keep off the rain, 挡雨, an umbrella, 雨伞
weigh fruit, 称水果, a scale, 秤; read the temperature, 量温度, a thermometer, 温度计
find north, 找北方, a compass, 指南针; catch fish, 捕鱼, a net, 渔网; cut wood, 锯木头, a saw, 锯子
keep food cold, 冷藏食物, a fridge, 冰箱
""")

# where, and who works there
WORKERS = table("""
treat patients, 给病人看病, doctor, 医生; teach pupils, 教学生, teacher, 老师
grow crops, 种庄稼, farmer, 农民; fly planes, 开飞机, pilot, 飞行员; cook meals, 做饭菜, cook, 厨师
put out fires, 灭火, firefighter, 消防员; paint pictures, 画画, painter, 画家
sing songs, 唱歌, singer, 歌手; bake bread, 烤面包, baker, 面包师
catch thieves, 抓小偷, police officer, 警察; cut hair, 剪头发, barber, 理发师
write books, 写书, writer, 作家; deliver letters, 送信, postman, 邮递员
build houses, 盖房子, builder, 建筑工人; drive buses, 开公交车, driver, 司机
pull bad teeth, 拔坏牙, dentist, 牙医; make furniture, 做家具, carpenter, 木匠
make clothes, 做衣服, tailor, 裁缝
""")
