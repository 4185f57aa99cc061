"""A grammar of short Chinese stories; see stories_en.py."""

from minimind.world.tables import listed

SLOTS = {
    "place": listed("""
        森林里; 小河边; 公园里; 海滩上; 花园里; 市场上; 旧桥旁; 农场里; 村子里; 湖边; 学校后面; 图书馆里
        山坡上; 车站旁
    """),
    "thing": listed("""
        皮球; 风筝; 书; 钥匙; 帽子; 台灯; 玩具船; 篮子; 雨伞; 地图; 时钟; 小鼓; 盒子; 围巾; 杯子; 小铃铛
        铅笔; 毯子
    """),
    "food": listed("面包; 苹果; 蛋糕; 热汤; 樱桃; 米饭; 蜂蜜; 梨; 面条; 奶酪; 饼干; 桃子"),
    "animal": listed("""
        小猫; 小狗; 狐狸; 兔子; 小鸟; 鸭子; 青蛙; 老鼠; 小熊; 小马; 乌龟; 猴子; 绵羊; 小鹿; 小狼; 山羊
    """),
    "colour": listed("红色; 蓝色; 绿色; 黄色; 白色; 黑色; 棕色; 灰色; 粉色; 紫色"),
    "weather": listed("那天阳光很好。; 那天下着雨。; 风刮得很大。; 天上飘着雪。; 天空灰蒙蒙的。; 天气很暖和。"),
    "time": listed("""
        一天早上; 一天晚上; 有一天; 星期天; 春天里; 夏天里; 去年冬天; 放学后; 一个寒冷的日子; 午饭前
    """),
}

PLOTS = {
    "lost thing": (
        (
            "{time}，{hero}找不到自己的{thing}了。",
            "{time}，{hero}在{place}丢了{thing}。",
            "{hero}的{thing}是{colour}的，{time}却不见了。",
        ),
        ("{weather}", "{hero}很难过。", "{hero}找了床底下，又找了门后面。", "谁也没有看见。"),
        (
            "“你能帮帮我吗？”{hero}问{friend}。",
            "{friend}跑来帮忙一起找。",
            "{friend}看见{hero}不开心，就问为什么。",
        ),
        ("他们在{place}到处找。", "两个人一起去{place}找。", "一只{animal}正坐在{place}。"),
        (
            "最后，他们在一棵树下找到了{thing}。",
            "原来有只{animal}正睡在{thing}上！",
            "{friend}看见草里有{colour}的东西，正是那{thing}。",
        ),
        ("{hero}高兴极了。", "“谢谢你！”{hero}说。", "从那以后，{hero}总是好好爱护它。"),
    ),
    "hungry animal": (
        (
            "{time}，{hero}在{place}遇见一只饥饿的{animal}。",
            "{place}坐着一只{colour}的{animal}，{hero}看见了它。",
            "{hero}听见{place}有声音，原来是一只{animal}。",
        ),
        ("{weather}", "{animal}又瘦又累。", "{animal}一整天没有吃东西了。"),
        ("{hero}有{food}，就分给{animal}一半。", "“你想吃{food}吗？”{hero}问。", "{hero}跑回家，带来了{food}。"),
        ("{animal}吃呀吃呀。", "{animal}高兴得跳了起来。", "这下{animal}吃饱了。"),
        (
            "第二天，{animal}又来了，还带来一件礼物：{thing}。",
            "从此{animal}总是跟着{hero}。",
            "{friend}看见了，说：“你的心真好。”",
        ),
        ("他们成了好朋友。", "从那天起，{hero}再也不孤单了。", "善良总会有回报。"),
    ),
    "learning": (
        ("{hero}想学游泳。", "{hero}想学弹钢琴。", "{hero}还不会骑自行车。", "{hero}想画一只{animal}。"),
        ("第一次没有成功。", "这可真难。", "{hero}摔倒了，很伤心。", "“我做不到。”{hero}说。"),
        ("“再试一次，”{friend}说，“我来帮你。”", "{friend}说：“没有人第一天就会。”", "{friend}做给{hero}看。"),
        ("于是{hero}每天都练习。", "{hero}努力了一个星期。", "他们每天傍晚在{place}练习。"),
        ("忽然有一天，成功了！", "终于，{hero}学会了。", "到了月底，{hero}已经做得很好了。"),
        ("{hero}开心地笑了。", "{hero}感到很自豪。", "只要坚持，就能学会。"),
    ),
    "gift": (
        ("{friend}要过生日了，{hero}想送一件礼物。", "{time}，{hero}在想送{friend}什么礼物。"),
        ("可是{hero}没有钱。", "{hero}看遍了市场，也没有找到合适的。", "{thing}太贵了。"),
        (
            "于是{hero}用纸做了{thing}。",
            "于是{hero}画了一只{colour}的{animal}。",
            "于是{hero}用{colour}的纸包好{food}。",
        ),
        ("{weather}", "{hero}把它放进一个{colour}的盒子。", "然后{hero}走到{friend}家。"),
        ("“这是最好的礼物。”{friend}说。", "{friend}打开一看，高兴得笑了。", "{friend}开心得说不出话来。"),
        ("他们一起吃了{food}。", "用心做的礼物最好。", "那真是美好的一天。"),
    ),
    "storm": (
        ("{time}，{hero}和{friend}在{place}玩。", "{hero}和{friend}去{place}散步。"),
        ("忽然下起了雨。", "这时来了一场暴风雨。", "乌云遮住了天空。"),
        ("一只{animal}跑过来，它很害怕。", "{friend}害怕打雷。", "他们没有带伞，衣服都湿了。"),
        ("“来，我们躲到桥下面。”{hero}说。", "{hero}找到一间旧房子，他们走了进去。", "{hero}拉住了{friend}的手。"),
        ("他们一边等，一边讲故事。", "他们唱着歌，直到雨停。", "他们分着吃{food}。"),
        ("后来太阳出来了，天上有一道彩虹。", "不久天空又变蓝了。", "晚上，他们平安回到了家。"),
    ),
    "honest": (
        ("{time}，{hero}在{place}捡到{thing}。", "{place}有个{colour}的东西，原来是{thing}，{hero}把它捡了起来。"),
        ("它真漂亮。", "{hero}很想留下它。", "周围没有人。", "{weather}"),
        ("“这是谁的呢？”{hero}想。", "可是{hero}想：一定有人在找它。", "这时{hero}看见{friend}在哭。"),
        ("“这是你的{thing}吗？”{hero}问。", "{hero}把{thing}还给了{friend}。", "{hero}一家一家地去问。"),
        ("原来那是{friend}的{thing}。", "“是我的！”{friend}说，“谢谢你！”"),
        ("{friend}请{hero}吃{food}。", "{hero}心里又轻松又高兴。", "诚实让两个人都快乐。"),
    ),
    "animals": (
        (
            "{animal}和老乌龟住在{place}。",
            "很久以前，{place}住着一只{colour}的{animal}。",
            "从前有一只骄傲的{animal}。",
        ),
        ("“我跑得最快。”{animal}说。", "{animal}总想当第一。", "{animal}常常笑话走得慢的动物。"),
        ("有一天，{animal}掉进了一个坑。", "{time}，{animal}在森林里迷了路。", "{time}，{animal}找不到吃的。"),
        ("谁也没有听见。", "它大声求救。", "{weather}", "夜晚又长又冷。"),
        ("最后，老乌龟慢慢走来帮了它。", "一只小小的蚂蚁给它指了路。", "一只老鸟带来了{food}。"),
        (
            "从那天起，{animal}再也不笑话别人。",
            "“谢谢你，我的朋友。”{animal}说。",
            "{animal}明白了：小家伙也能帮大忙。",
        ),
    ),
}
