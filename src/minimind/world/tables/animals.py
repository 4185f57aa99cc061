"""Animals: name, class, legs, sound, young; English and Chinese in turn, `-` where nothing is said."""

from minimind.world.tables import table

ANIMALS = table("""
cat, 猫, mammal, 哺乳动物, 4, meow, 喵喵, kitten, 猫崽
dog, 狗, mammal, 哺乳动物, 4, woof, 汪汪, puppy, 狗崽
cow, 奶牛, mammal, 哺乳动物, 4, moo, 哞哞, calf, 牛犊
horse, 马, mammal, 哺乳动物, 4, neigh, 咴咴, foal, 马驹
sheep, 绵羊, mammal, 哺乳动物, 4, baa, 咩咩, lamb, 羊羔
pig, 猪, mammal, 哺乳动物, 4, oink, 哼哼, piglet, 猪崽
lion, 狮子, mammal, 哺乳动物, 4, roar, 吼吼, cub, 狮崽
wolf, 狼, mammal, 哺乳动物, 4, howl, 嗷嗷, pup, 狼崽
mouse, 老鼠, mammal, 哺乳动物, 4, squeak, 吱吱, pinkie, 鼠崽
bear, 熊, mammal, 哺乳动物, 4, growl, 呜呜, -, -
deer, 鹿, mammal, 哺乳动物, 4, -, -, fawn, 鹿崽
goat, 山羊, mammal, 哺乳动物, 4, -, -, kid, 山羊羔
rabbit, 兔子, mammal, 哺乳动物, 4, -, -, bunny, 兔崽
tiger, 老虎, mammal, 哺乳动物, 4, -, -, -, -
elephant, 大象, mammal, 哺乳动物, 4, trumpet, 昂昂, -, -
monkey, 猴子, mammal, 哺乳动物, 4, chatter, 吱哇, -, -
whale, 鲸鱼, mammal, 哺乳动物, 0, -, -, -, -
dolphin, 海豚, mammal, 哺乳动物, 0, click, 咔哒, -, -
duck, 鸭子, bird, 鸟类, 2, quack, 嘎嘎, duckling, 雏鸭
hen, 母鸡, bird, 鸟类, 2, cluck, 咯咯, chick, 雏鸡
goose, 鹅, bird, 鸟类, 2, honk, 鹅鹅, gosling, 雏鹅
owl, 猫头鹰, bird, 鸟类, 2, hoot, 咕咕, owlet, 雏鸮
crow, 乌鸦, bird, 鸟类, 2, caw, 哇哇, -, -
eagle, 老鹰, bird, 鸟类, 2, -, -, eaglet, 雏鹰
swan, 天鹅, bird, 鸟类, 2, -, -, cygnet, 雏天鹅
penguin, 企鹅, bird, 鸟类, 2, -, -, -, -
sparrow, 麻雀, bird, 鸟类, 2, chirp, 叽叽, -, -
snake, 蛇, reptile, 爬行动物, 0, hiss, 嘶嘶, -, -
lizard, 蜥蜴, reptile, 爬行动物, 4, -, -, -, -
turtle, 乌龟, reptile, 爬行动物, 4, -, -, -, -
crocodile, 鳄鱼, reptile, 爬行动物, 4, -, -, -, -
frog, 青蛙, amphibian, 两栖动物, 4, croak, 呱呱, tadpole, 蝌蚪
toad, 蟾蜍, amphibian, 两栖动物, 4, -, -, -, -
salmon, 三文鱼, fish, 鱼类, 0, -, -, -, -
shark, 鲨鱼, fish, 鱼类, 0, -, -, -, -
bee, 蜜蜂, insect, 昆虫, 6, buzz, 嗡嗡, -, -
ant, 蚂蚁, insect, 昆虫, 6, -, -, -, -
butterfly, 蝴蝶, insect, 昆虫, 6, -, -, caterpillar, 毛毛虫
spider, 蜘蛛, arachnid, 蛛形动物, 8, -, -, -, -
scorpion, 蝎子, arachnid, 蛛形动物, 8, -, -, -, -
""")
