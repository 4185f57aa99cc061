"""Names of people and pets, by language. English names of people are a man's and a woman's in turn."""

from minimind.world.tables import listed

NAMES = {
    "en": listed("""
        Tom; Anna; Ben; Lucy; Jack; Mary; Peter; Emma; Sam; Alice; Leo; Nora; Max; Ruby; Oscar; Ella; Henry
        Grace; Felix; Julia; Hugo; Clara; Victor; Daisy; Simon; Rose; Adam; Eva; Martin; Sofia; Daniel
        Laura; Paul; Helen; Mark; Diana; Eric; Fiona; George; Irene; Kevin; Linda; Nick; Olivia; Robert
        Tina; Walter; Zoe
    """),
    "zh": listed("""
        小明; 小红; 小刚; 小丽; 小华; 小芳; 小军; 小燕; 小杰; 小雪; 小龙; 小梅; 小强; 小云; 小东; 小兰; 小宇
        小月; 小虎; 小琴; 王伟; 李娜; 张强; 刘洋; 陈静; 杨帆; 赵磊; 黄敏; 周涛; 吴霞; 徐亮; 孙丽; 马超; 朱琳
        胡军; 郭敏; 何平; 高远; 林枫; 罗兰; 梁晨; 宋佳; 唐宁; 韩雪; 冯刚; 于洋; 董洁; 程鹏
    """),
}

PETS = {
    "en": listed("""
        Spot; Coco; Lucky; Snowy; Rex; Bella; Toby; Milo; Ginger; Pepper; Biscuit; Shadow; Smoky; Sunny
        Honey; Patch
    """),
    "zh": listed("""
        豆豆; 毛毛; 球球; 花花; 旺财; 咪咪; 团团; 圆圆; 小白; 小黑; 大黄; 点点; 果果; 乐乐; 奇奇; 妞妞
    """),
}
