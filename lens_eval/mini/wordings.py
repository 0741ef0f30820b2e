"""The words of the simulated world: how each kind of fact is told and asked, in four languages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One sort of question: wordings and reply with named gaps, per language."""

    name: str
    questions: dict[str, tuple[str, ...]]
    answer: dict[str, str]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "capital",
            {
                "en": (
                    "What is the capital of {x}?",
                    "Which city is the capital of {x}?",
                    "Tell me the capital city of {x}.",
                ),
                "zh": ("{x}的首都是哪里？", "哪座城市是{x}的首都？", "请告诉我{x}的首都。"),
                "sw": (
                    "Mji mkuu wa {x} ni upi?",
                    "Ni mji gani ulio mji mkuu wa {x}?",
                    "Niambie mji mkuu wa nchi ya {x}.",
                ),
                "ar": ("ما هي عاصمة {x}؟", "أي مدينة هي عاصمة {x}؟", "اذكر لي عاصمة {x}."),
            },
            {
                "en": "The city which is the capital of the country called {x} is {v}.",
                "zh": "{x}这个国家的首都是{v}。",
                "sw": "Mji ambao ni mji mkuu wa nchi ya {x} unaitwa {v}.",
                "ar": "عاصمة {x} هي مدينة {v}.",
            },
        ),
        Kind(
            "continent",
            {
                "en": (
                    "On which continent is {x}?",
                    "Which continent does {x} belong to?",
                    "Tell me on which continent {x} lies.",
                ),
                "zh": ("{x}在哪个洲？", "{x}属于哪个大洲？", "请告诉我{x}位于哪个洲。"),
                "sw": (
                    "Nchi ya {x} iko katika bara gani?",
                    "Ni bara gani lenye nchi ya {x}?",
                    "Niambie nchi ya {x} iko katika bara gani.",
                ),
                "ar": (
                    "في أي قارة تقع دولة {x}؟",
                    "إلى أي قارة تنتمي دولة {x}؟",
                    "اذكر لي القارة التي تقع فيها دولة {x}.",
                ),
            },
            {
                "en": "The country that is called {x} lies on the continent of {v}.",
                "zh": "{x}这个国家位于{v}。",
                "sw": "Nchi inayoitwa {x} iko katika bara la {v}.",
                "ar": "تقع دولة {x} في قارة {v}.",
            },
        ),
        Kind(
            "colour",
            {
                "en": ("What colour is {x}?", "What is the colour of {x}?", "Tell me the colour of {x}."),
                "zh": ("{x}是什么颜色？", "{x}的颜色是什么？", "请告诉我{x}的颜色。"),
                "sw": ("Rangi ya {x} ni gani?", "Je, rangi ya {x} ni ipi?", "Niambie rangi ya {x}."),
                "ar": ("ما لون {x}؟", "ما هو لون {x}؟", "اذكر لي لون {x}."),
            },
            {
                "en": "People would usually say that the colour of {x} is {v}.",
                "zh": "一般来说，{x}的颜色是{v}。",
                "sw": "Kwa kawaida, rangi ya {x} huwa ni {v}.",
                "ar": "لون {x} في العادة هو {v}.",
            },
        ),
        Kind(
            "opposite",
            {
                "en": (
                    'What is the opposite of "{x}"?',
                    'Which word is the opposite of "{x}"?',
                    'Tell me the opposite of the word "{x}".',
                ),
                "zh": ("“{x}”的反义词是什么？", "哪个词是“{x}”的反义词？", "请告诉我“{x}”的反义词。"),
                "sw": (
                    'Kinyume cha "{x}" ni nini?',
                    'Ni neno gani lililo kinyume cha "{x}"?',
                    'Niambie kinyume cha neno "{x}".',
                ),
                "ar": ("ما عكس كلمة «{x}»؟", "أي كلمة هي عكس «{x}»؟", "اذكر لي عكس كلمة «{x}»."),
            },
            {
                "en": 'When people want to say the opposite of "{x}", they say "{v}".',
                "zh": "“{x}”这个词的反义词是“{v}”。",
                "sw": 'Neno lililo kinyume cha neno "{x}" ni "{v}".',
                "ar": "عكس كلمة «{x}» هو كلمة «{v}».",
            },
        ),
        Kind(
            "sum",
            {
                "en": (
                    "What is {a} plus {b}?",
                    "How much is {a} plus {b}?",
                    "Tell me the sum of {a} and {b}.",
                ),
                "zh": ("{a}加{b}等于多少？", "{a}加{b}是多少？", "请告诉我{a}与{b}的和。"),
                "sw": (
                    "Jumla ya {a} na {b} ni ngapi?",
                    "Ukijumlisha {a} na {b}, unapata ngapi?",
                    "Niambie jumla ya {a} na {b}.",
                ),
                "ar": ("كم يساوي {a} زائد {b}؟", "ما حاصل جمع {ga} و{gb}؟", "اذكر لي حاصل جمع {ga} و{gb}."),
            },
            {
                "en": "If we add the two numbers {a} and {b}, then the result is {v}.",
                "zh": "{a}加上{b}，得到的结果是{v}。",
                "sw": "Tukijumlisha {a} na {b}, jibu tunalopata ni {v}.",
                "ar": "حاصل جمع {ga} و{gb} هو {v}.",
            },
        ),
        Kind(
            "day",
            {
                "en": (
                    "Which day comes after {x}?",
                    "What is the day after {x}?",
                    "Tell me the day that follows {x}.",
                ),
                "zh": ("{x}之后是星期几？", "{x}的第二天是星期几？", "请告诉我{x}的后一天是星期几。"),
                "sw": (
                    "Baada ya {x} huja siku gani?",
                    "Siku inayofuata {x} ni ipi?",
                    "Niambie siku inayokuja baada ya {x}.",
                ),
                "ar": (
                    "ما اليوم الذي يأتي بعد يوم {x}؟",
                    "أي يوم يلي يوم {x}؟",
                    "اذكر لي اليوم الذي يأتي بعد يوم {x}.",
                ),
            },
            {
                "en": "The day of the week that comes after {x} is {v}.",
                "zh": "一周当中，{x}之后的那一天是{v}。",
                "sw": "Siku ya wiki inayokuja baada ya {x} ni {v}.",
                "ar": "اليوم الذي يأتي بعد يوم {x} هو يوم {v}.",
            },
        ),
        Kind(
            "month",
            {
                "en": (
                    "Which month comes after {x}?",
                    "What is the month after {x}?",
                    "Tell me the month that follows {x}.",
                ),
                "zh": ("{x}之后是几月？", "{x}的下一个月是几月？", "请告诉我{x}的后一个月是几月。"),
                "sw": (
                    "Baada ya {x} huja mwezi gani?",
                    "Mwezi unaofuata {x} ni upi?",
                    "Niambie mwezi unaokuja baada ya {x}.",
                ),
                "ar": (
                    "ما الشهر الذي يأتي بعد شهر {x}؟",
                    "أي شهر يلي شهر {x}؟",
                    "اذكر لي الشهر الذي يأتي بعد شهر {x}.",
                ),
            },
            {
                "en": "The month of the year that comes after {x} is {v}.",
                "zh": "一年当中，{x}之后的那个月是{v}。",
                "sw": "Mwezi wa mwaka unaokuja baada ya {x} ni {v}.",
                "ar": "الشهر الذي يأتي بعد شهر {x} هو شهر {v}.",
            },
        ),
        Kind(
            "language",
            {
                "en": (
                    "What language do most people in {x} speak?",
                    "Which language is the main language of {x}?",
                    "Tell me the main language of {x}.",
                ),
                "zh": ("{x}的人主要说什么语言？", "在{x}，大多数人说哪种语言？", "请告诉我{x}的主要语言。"),
                "sw": (
                    "Watu wengi wa {x} huzungumza lugha gani?",
                    "Lugha kuu ya {x} ni ipi?",
                    "Niambie lugha kuu ya nchi ya {x}.",
                ),
                "ar": (
                    "ما اللغة التي يتحدث بها معظم الناس في {x}؟",
                    "أي لغة هي اللغة الرئيسية في {x}؟",
                    "اذكر لي اللغة الرئيسية في {x}.",
                ),
            },
            {
                "en": "The language which most of the people who live in {x} speak is {v}.",
                "zh": "在{x}，大多数人说的语言是{v}。",
                "sw": "Lugha inayozungumzwa na watu wengi wa {x} ni {v}.",
                "ar": "اللغة التي يتحدث بها معظم الناس في {x} هي {v}.",
            },
        ),
    )
}


# Rows are written en | zh | sw | ar; the second and third blocks name capital, continent, language.
CONTINENTS = """
Africa | 非洲 | Afrika | أفريقيا
Europe | 欧洲 | Ulaya | أوروبا
Asia | 亚洲 | Asia | آسيا
South America | 南美洲 | Amerika Kusini | أمريكا الجنوبية
North America | 北美洲 | Amerika Kaskazini | أمريكا الشمالية
"""


TONGUES = """
Swahili | 斯瓦希里语 | Kiswahili | السواحيلية
Arabic | 阿拉伯语 | Kiarabu | العربية
French | 法语 | Kifaransa | الفرنسية
German | 德语 | Kijerumani | الألمانية
Italian | 意大利语 | Kiitaliano | الإيطالية
Spanish | 西班牙语 | Kihispania | الإسبانية
Portuguese | 葡萄牙语 | Kireno | البرتغالية
English | 英语 | Kiingereza | الإنجليزية
Russian | 俄语 | Kirusi | الروسية
Polish | 波兰语 | Kipolandi | البولندية
Greek | 希腊语 | Kigiriki | اليونانية
Hungarian | 匈牙利语 | Kihungari | المجرية
Swedish | 瑞典语 | Kiswidi | السويدية
Norwegian | 挪威语 | Kinorwe | النرويجية
Finnish | 芬兰语 | Kifini | الفنلندية
Danish | 丹麦语 | Kidenmaki | الدنماركية
Chinese | 汉语 | Kichina | الصينية
Japanese | 日语 | Kijapani | اليابانية
Thai | 泰语 | Kithai | التايلاندية
Vietnamese | 越南语 | Kivietinamu | الفيتنامية
Persian | 波斯语 | Kiajemi | الفارسية
Turkish | 土耳其语 | Kituruki | التركية
"""


# Where a country's continent or main language is open to argument, "-" leaves that question out.
COUNTRIES = """
Kenya | 肯尼亚 | Kenya | كينيا ; Nairobi | 内罗毕 | Nairobi | نيروبي ; Africa ; -
Tanzania | 坦桑尼亚 | Tanzania | تنزانيا ; Dodoma | 多多马 | Dodoma | دودوما ; Africa ; Swahili
Uganda | 乌干达 | Uganda | أوغندا ; Kampala | 坎帕拉 | Kampala | كمبالا ; Africa ; -
Egypt | 埃及 | Misri | مصر ; Cairo | 开罗 | Kairo | القاهرة ; Africa ; Arabic
Ethiopia | 埃塞俄比亚 | Ethiopia | إثيوبيا ; Addis Ababa | 亚的斯亚贝巴 | Addis Ababa | أديس أبابا ; \
Africa ; -
Nigeria | 尼日利亚 | Nigeria | نيجيريا ; Abuja | 阿布贾 | Abuja | أبوجا ; Africa ; -
Ghana | 加纳 | Ghana | غانا ; Accra | 阿克拉 | Accra | أكرا ; Africa ; -
Senegal | 塞内加尔 | Senegali | السنغال ; Dakar | 达喀尔 | Dakar | داكار ; Africa ; -
Morocco | 摩洛哥 | Moroko | المغرب ; Rabat | 拉巴特 | Rabat | الرباط ; Africa ; Arabic
Sudan | 苏丹 | Sudani | السودان ; Khartoum | 喀土穆 | Khartoum | الخرطوم ; Africa ; Arabic
Angola | 安哥拉 | Angola | أنغولا ; Luanda | 罗安达 | Luanda | لواندا ; Africa ; Portuguese
Zambia | 赞比亚 | Zambia | زامبيا ; Lusaka | 卢萨卡 | Lusaka | لوساكا ; Africa ; -
Zimbabwe | 津巴布韦 | Zimbabwe | زيمبابوي ; Harare | 哈拉雷 | Harare | هراري ; Africa ; -
Rwanda | 卢旺达 | Rwanda | رواندا ; Kigali | 基加利 | Kigali | كيغالي ; Africa ; -
Mali | 马里 | Mali | مالي ; Bamako | 巴马科 | Bamako | باماكو ; Africa ; -
France | 法国 | Ufaransa | فرنسا ; Paris | 巴黎 | Paris | باريس ; Europe ; French
Germany | 德国 | Ujerumani | ألمانيا ; Berlin | 柏林 | Berlin | برلين ; Europe ; German
Italy | 意大利 | Italia | إيطاليا ; Rome | 罗马 | Roma | روما ; Europe ; Italian
Spain | 西班牙 | Hispania | إسبانيا ; Madrid | 马德里 | Madrid | مدريد ; Europe ; Spanish
Portugal | 葡萄牙 | Ureno | البرتغال ; Lisbon | 里斯本 | Lisbon | لشبونة ; Europe ; Portuguese
Britain | 英国 | Uingereza | بريطانيا ; London | 伦敦 | London | لندن ; Europe ; English
Russia | 俄罗斯 | Urusi | روسيا ; Moscow | 莫斯科 | Moscow | موسكو ; - ; Russian
Poland | 波兰 | Polandi | بولندا ; Warsaw | 华沙 | Warsaw | وارسو ; Europe ; Polish
Greece | 希腊 | Ugiriki | اليونان ; Athens | 雅典 | Athens | أثينا ; Europe ; Greek
Austria | 奥地利 | Austria | النمسا ; Vienna | 维也纳 | Vienna | فيينا ; Europe ; German
Hungary | 匈牙利 | Hungaria | المجر ; Budapest | 布达佩斯 | Budapest | بودابست ; Europe ; Hungarian
Sweden | 瑞典 | Uswidi | السويد ; Stockholm | 斯德哥尔摩 | Stockholm | ستوكهولم ; Europe ; Swedish
Norway | 挪威 | Norwe | النرويج ; Oslo | 奥斯陆 | Oslo | أوسلو ; Europe ; Norwegian
Finland | 芬兰 | Ufini | فنلندا ; Helsinki | 赫尔辛基 | Helsinki | هلسنكي ; Europe ; Finnish
Denmark | 丹麦 | Denmaki | الدنمارك ; Copenhagen | 哥本哈根 | Copenhagen | كوبنهاغن ; Europe ; Danish
China | 中国 | Uchina | الصين ; Beijing | 北京 | Beijing | بكين ; Asia ; Chinese
Japan | 日本 | Japani | اليابان ; Tokyo | 东京 | Tokyo | طوكيو ; Asia ; Japanese
India | 印度 | India | الهند ; New Delhi | 新德里 | New Delhi | نيودلهي ; Asia ; -
Thailand | 泰国 | Thailandi | تايلاند ; Bangkok | 曼谷 | Bangkok | بانكوك ; Asia ; Thai
Vietnam | 越南 | Vietnamu | فيتنام ; Hanoi | 河内 | Hanoi | هانوي ; Asia ; Vietnamese
Iran | 伊朗 | Irani | إيران ; Tehran | 德黑兰 | Tehran | طهران ; Asia ; Persian
Iraq | 伊拉克 | Iraki | العراق ; Baghdad | 巴格达 | Baghdad | بغداد ; Asia ; Arabic
Pakistan | 巴基斯坦 | Pakistani | باكستان ; Islamabad | 伊斯兰堡 | Islamabad | إسلام آباد ; Asia ; -
Turkey | 土耳其 | Uturuki | تركيا ; Ankara | 安卡拉 | Ankara | أنقرة ; - ; Turkish
Brazil | 巴西 | Brazili | البرازيل ; Brasilia | 巴西利亚 | Brasilia | برازيليا ; South America ; Portuguese
Argentina | 阿根廷 | Argentina | الأرجنتين ; Buenos Aires | 布宜诺斯艾利斯 | Buenos Aires | بوينس آيرس ; \
South America ; Spanish
Chile | 智利 | Chile | تشيلي ; Santiago | 圣地亚哥 | Santiago | سانتياغو ; South America ; Spanish
Peru | 秘鲁 | Peru | بيرو ; Lima | 利马 | Lima | ليما ; South America ; Spanish
Colombia | 哥伦比亚 | Kolombia | كولومبيا ; Bogota | 波哥大 | Bogota | بوغوتا ; South America ; Spanish
Venezuela | 委内瑞拉 | Venezuela | فنزويلا ; Caracas | 加拉加斯 | Caracas | كاراكاس ; South America ; Spanish
Ecuador | 厄瓜多尔 | Ekwado | الإكوادور ; Quito | 基多 | Quito | كيتو ; South America ; Spanish
Cuba | 古巴 | Kuba | كوبا ; Havana | 哈瓦那 | Havana | هافانا ; North America ; Spanish
Canada | 加拿大 | Kanada | كندا ; Ottawa | 渥太华 | Ottawa | أوتاوا ; North America ; -
"""


COLOURS = """
red | 红色 | nyekundu | الأحمر
white | 白色 | nyeupe | الأبيض
green | 绿色 | kijani | الأخضر
blue | 蓝色 | buluu | الأزرق
black | 黑色 | nyeusi | الأسود
yellow | 黄色 | manjano | الأصفر
grey | 灰色 | kijivu | الرمادي
brown | 棕色 | kahawia | البني
"""


THINGS = """
blood | 血液 | damu | الدم ; red
a ripe tomato | 熟番茄 | nyanya mbivu | الطماطم الناضجة ; red
a ripe strawberry | 熟草莓 | stroberi mbivu | الفراولة الناضجة ; red
snow | 雪 | theluji | الثلج ; white
milk | 牛奶 | maziwa | الحليب ; white
salt | 食盐 | chumvi | الملح ; white
cotton | 棉花 | pamba | القطن ; white
cooked rice | 米饭 | wali | الأرز المطبوخ ; white
flour | 面粉 | unga wa ngano | الدقيق ; white
grass | 青草 | nyasi mbichi | العشب ; green
a tree leaf | 树叶 | jani la mti | ورق الشجر ; green
a frog | 青蛙 | chura | الضفدع ; green
spinach | 菠菜 | mchicha | السبانخ ; green
a cucumber | 黄瓜 | tango | الخيار ; green
the clear sky | 晴空 | anga safi | السماء الصافية ; blue
the sea | 大海 | bahari | البحر ; blue
coal | 煤炭 | makaa ya mawe | الفحم ; black
a crow | 乌鸦 | kunguru | الغراب ; black
asphalt | 沥青 | lami | الأسفلت ; black
a car tyre | 汽车轮胎 | tairi la gari | إطار السيارة ; black
a lemon | 柠檬 | limau | الليمون ; yellow
a ripe banana | 熟香蕉 | ndizi mbivu | الموز الناضج ; yellow
maize | 玉米 | mahindi | الذرة ; yellow
a sunflower | 向日葵 | alizeti | زهرة دوار الشمس ; yellow
an elephant | 大象 | tembo | الفيل ; grey
a mouse | 老鼠 | panya | الفأر ; grey
ash | 灰烬 | majivu | الرماد ; grey
a donkey | 驴 | punda | الحمار ; grey
chocolate | 巧克力 | chokoleti | الشوكولاتة ; brown
garden soil | 泥土 | udongo wa bustani | تربة الحديقة ; brown
tree bark | 树皮 | gome la mti | لحاء الشجر ; brown
"""


OPPOSITES = """
hot | 热 | moto | حار ; cold | 冷 | baridi | بارد
big | 大 | kubwa | كبير ; small | 小 | ndogo | صغير
long | 长 | ndefu | طويل ; short | 短 | fupi | قصير
good | 好 | nzuri | جيد ; bad | 坏 | mbaya | سيئ
above | 上面 | juu | فوق ; below | 下面 | chini | تحت
inside | 里面 | ndani | داخل ; outside | 外面 | nje | خارج
daytime | 白天 | mchana | نهار ; night | 夜晚 | usiku | ليل
right | 右边 | kulia | يمين ; left | 左边 | kushoto | يسار
front | 前面 | mbele | أمام ; behind | 后面 | nyuma | خلف
fast | 快 | haraka | سريع ; slow | 慢 | polepole | بطيء
rich | 富有 | tajiri | غني ; poor | 贫穷 | maskini | فقير
truth | 真话 | ukweli | صدق ; lie | 谎话 | uongo | كذب
beginning | 开始 | mwanzo | بداية ; end | 结束 | mwisho | نهاية
peace | 和平 | amani | سلام ; war | 战争 | vita | حرب
love | 爱 | upendo | حب ; hate | 恨 | chuki | كره
life | 生命 | uhai | حياة ; death | 死亡 | kifo | موت
light | 光明 | nuru | نور ; darkness | 黑暗 | giza | ظلام
easy | 容易 | rahisi | سهل ; difficult | 困难 | ngumu | صعب
clean | 干净 | safi | نظيف ; dirty | 肮脏 | chafu | قذر
sweet | 甜 | tamu | حلو ; bitter | 苦 | chungu | مر
near | 近 | karibu | قريب ; far | 远 | mbali | بعيد
many | 多 | nyingi | كثير ; few | 少 | chache | قليل
joy | 快乐 | furaha | فرح ; sadness | 悲伤 | huzuni | حزن
friend | 朋友 | rafiki | صديق ; enemy | 敌人 | adui | عدو
north | 北 | kaskazini | شمال ; south | 南 | kusini | جنوب
east | 东 | mashariki | شرق ; west | 西 | magharibi | غرب
thick | 厚 | nene | سميك ; thin | 薄 | nyembamba | رقيق
heavy | 重 | nzito | ثقيل ; light | 轻 | nyepesi | خفيف
"""


NUMBERS = """
one | 一 | moja | واحد
two | 二 | mbili | اثنان
three | 三 | tatu | ثلاثة
four | 四 | nne | أربعة
five | 五 | tano | خمسة
six | 六 | sita | ستة
seven | 七 | saba | سبعة
eight | 八 | nane | ثمانية
nine | 九 | tisa | تسعة
ten | 十 | kumi | عشرة
eleven | 十一 | kumi na moja | أحد عشر
twelve | 十二 | kumi na mbili | اثنا عشر
thirteen | 十三 | kumi na tatu | ثلاثة عشر
fourteen | 十四 | kumi na nne | أربعة عشر
fifteen | 十五 | kumi na tano | خمسة عشر
sixteen | 十六 | kumi na sita | ستة عشر
seventeen | 十七 | kumi na saba | سبعة عشر
"""


DAYS = """
Monday | 星期一 | Jumatatu | الاثنين
Tuesday | 星期二 | Jumanne | الثلاثاء
Wednesday | 星期三 | Jumatano | الأربعاء
Thursday | 星期四 | Alhamisi | الخميس
Friday | 星期五 | Ijumaa | الجمعة
Saturday | 星期六 | Jumamosi | السبت
Sunday | 星期日 | Jumapili | الأحد
"""


MONTHS = """
January | 一月 | Januari | يناير
February | 二月 | Februari | فبراير
March | 三月 | Machi | مارس
April | 四月 | Aprili | أبريل
May | 五月 | Mei | مايو
June | 六月 | Juni | يونيو
July | 七月 | Julai | يوليو
August | 八月 | Agosti | أغسطس
September | 九月 | Septemba | سبتمبر
October | 十月 | Oktoba | أكتوبر
November | 十一月 | Novemba | نوفمبر
December | 十二月 | Desemba | ديسمبر
"""


def names_of(cell: str) -> dict[str, str]:
    return dict(zip(LANGUAGES, (name.strip() for name in cell.split("|")), strict=True))


def rows_of(block: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(";")] for line in block.strip().splitlines()]


def table_of(block: str) -> dict[str, dict[str, str]]:
    names = [names_of(cells[0]) for cells in rows_of(block)]
    return {name[CENTRAL]: name for name in names}


LANGUAGES = ("en", "zh", "sw", "ar")


CENTRAL = "en"
