"""How each relation is said and asked in Chinese; see wording_en.py. `wh` is the question word, 什么 if absent."""

from minimind.world.tables import listed

FRAMES = listed("""
    {noun}是{wh}？; 请告诉我{noun}。; 你知道{noun}是{wh}吗？; {noun}是{wh}呢？; 说出{noun}。; 我想知道{noun}。
    请问{noun}是{wh}？; 告诉我{noun}是{wh}。; 我有个问题：{noun}是{wh}？; {noun}？
""")
HELD_OUT_FRAMES = listed("""
    你能告诉我{noun}是{wh}吗？; 我忘了{noun}，请问是{wh}？; 请说一说{noun}是{wh}。; 我想问一问{noun}。
""")

WORDING = {
    "capital": {
        "noun": "{s}的首都",
        "wh": "哪里",
        "statements": ("{s}的首都是{v}。", "{v}是{s}的首都。", "{s}的首都叫{v}。"),
        "asked": ("哪座城市是{s}的首都？", "{s}的首都叫什么？"),
        "held_out": ("{s}的首都是哪座城市？",),
    },
    "country": {
        "noun": "以{s}为首都的国家",
        "wh": "哪个",
        "statements": ("{s}是{v}的首都。", "以{s}为首都的国家是{v}。"),
        "asked": ("{s}是哪个国家的首都？", "哪个国家的首都是{s}？"),
        "held_out": ("{s}是什么国家的首都？",),
    },
    "continent": {
        "noun": "{s}所在的大洲",
        "wh": "哪个",
        "statements": ("{s}位于{v}。", "{s}在{v}。", "{s}所在的大洲是{v}。"),
        "asked": ("{s}在哪个洲？", "{s}位于哪个洲？"),
        "held_out": ("{s}在什么洲？",),
    },
    "symbol": {
        "noun": "{s}的化学符号",
        "statements": ("{s}的元素符号是{v}。", "{v}是{s}的化学符号。", "化学家把{s}写作{v}。"),
        "asked": ("{s}的元素符号怎么写？", "哪个符号表示{s}？"),
        "held_out": ("{s}这种元素的符号是什么？",),
    },
    "number": {
        "noun": "{s}的原子序数",
        "wh": "多少",
        "statements": ("{s}的原子序数是{v}。", "{s}是第{v}号元素。", "原子序数为{v}的元素是{s}。"),
        "asked": ("{s}是第几号元素？", "元素{s}的序数是几？"),
        "held_out": ("{s}的原子序数是几？",),
    },
    "class": {
        "noun": "{s}所属的动物类别",
        "statements": ("{s}属于{v}。", "{s}是一种{v}。"),
        "asked": ("{s}是哪一类动物？", "{s}属于哪一类动物？"),
        "held_out": ("{s}属于什么动物？",),
    },
    "legs": {
        "noun": "{s}的腿数",
        "wh": "多少",
        "statements": ("{s}有{v}条腿。", "{s}的腿数是{v}。"),
        "asked": ("{s}有几条腿？", "一只{s}长着几条腿？"),
        "held_out": ("{s}有多少条腿？",),
    },
    "sound": {
        "noun": "{s}的叫声",
        "statements": ("{s}的叫声是{v}。", "{s}{v}地叫。", "“{v}”是{s}的叫声。"),
        "asked": ("{s}怎么叫？", "{s}会发出什么声音？"),
        "held_out": ("{s}发出的声音是什么？",),
    },
    "young": {
        "noun": "{s}的幼崽的名称",
        "statements": ("{s}的幼崽叫{v}。", "{v}是{s}的幼崽。", "{s}小时候叫{v}。"),
        "asked": ("{s}的幼崽叫什么？", "{s}小时候叫什么？"),
        "held_out": ("{s}的幼崽怎么叫？",),
    },
    "colour": {
        "noun": "{s}的颜色",
        "statements": ("{s}的颜色是{v}。", "{s}是{v}的。", "{s}呈{v}。"),
        "asked": ("{s}是什么颜色的？", "{s}是哪种颜色？"),
        "held_out": ("{s}的颜色是哪种？",),
    },
    "opposite": {
        "noun": "“{s}”的反义词",
        "statements": ("“{s}”的反义词是“{v}”。", "“{v}”是“{s}”的反义词。", "{s}和{v}意思相反。"),
        "asked": ("哪个词和“{s}”意思相反？", "“{s}”的反面是什么？"),
        "held_out": ("和“{s}”意思相反的词是什么？",),
    },
    "unit": {
        "noun": "{whole}里{part}的数量",
        "wh": "多少",
        "statements": ("{whole}有{v}{part}。", "{whole}等于{v}{part}。"),
        "asked": ("{whole}有多少{part}？", "{whole}有几{part}？"),
        "held_out": ("{whole}里面有多少{part}？",),
    },
    "days": {
        "noun": "{s}的天数",
        "wh": "多少",
        "statements": ("{s}有{v}天。", "{s}的天数是{v}。"),
        "asked": ("{s}有多少天？", "{s}有几天？"),
        "held_out": ("{s}一共有多少天？",),
    },
    "next month": {
        "noun": "{s}之后的月份",
        "statements": ("{s}之后是{v}。", "{s}的下一个月是{v}。"),
        "asked": ("{s}的下一个月是几月？", "{s}过完是几月？"),
        "held_out": ("{s}之后是几月？",),
    },
    "next day": {
        "noun": "{s}的后一天",
        "wh": "星期几",
        "statements": ("{s}的后一天是{v}。", "{s}之后是{v}。"),
        "asked": ("{s}之后是星期几？", "{s}过完是星期几？"),
        "held_out": ("{s}的下一天是星期几？",),
    },
    "day before": {
        "noun": "{s}的前一天",
        "wh": "星期几",
        "statements": ("{s}的前一天是{v}。", "{s}之前是{v}。"),
        "asked": ("{s}之前是星期几？", "哪一天过完是{s}？"),
        "held_out": ("{s}的上一天是星期几？",),
    },
    "tool": {
        "noun": "人们用来{s}的东西",
        "statements": ("人们{s}用{v}。", "{v}可以用来{s}。"),
        "asked": ("人们用什么{s}？", "{s}要用什么？"),
        "held_out": ("{s}的时候用什么？",),
    },
    "worker": {
        "noun": "负责{s}的职业",
        "statements": ("负责{s}的人是{v}。", "{v}的工作是{s}。"),
        "asked": ("负责{s}的人是谁？", "谁的工作是{s}？"),
        "held_out": ("什么人负责{s}？",),
    },
}
