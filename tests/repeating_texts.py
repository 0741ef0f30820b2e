"""Good replies that repeat themselves as such texts do: verse with a refrain, tables, lists, talk. Self-written."""

from __future__ import annotations

# code -> kind -> text
VERSE: dict[str, str] = {
    "en": "The lamp is lit, the road is long,\nWalk home with me, walk home.\nThe wind has learned another song,\n"
    "Walk home with me, walk home.\n\nThe fields are white, the dogs are still,\nWalk home with me, walk home.\n"
    "One window shines beyond the hill,\nWalk home with me, walk home.",
    "de": "Der Bäcker steht um drei schon auf,\nguten Morgen, guten Morgen.\nDer Hahn kräht auf dem Dach darauf,\n"
    "guten Morgen, guten Morgen.\n\nDie Katze streckt sich in der Tür,\nguten Morgen, guten Morgen.\n"
    "Die Milch steht warm und frisch bei mir,\nguten Morgen, guten Morgen.",
    "es": "La barca vieja duerme en la arena,\nay, mar, ay, mar.\nMi abuelo canta toda la pena,\nay, mar, ay, mar.\n\n"
    "La luna cuenta redes y estrellas,\nay, mar, ay, mar.\nY yo le pido la más pequeña de ellas,\nay, mar, ay, mar.",
    "fr": "La pluie tombe sur le vieux moulin,\ntourne, tourne, tourne encore.\nLe meunier dort jusqu'au matin,\n"
    "tourne, tourne, tourne encore.\n\nLe blé devient farine et pain,\ntourne, tourne, tourne encore.\n"
    "Les enfants n'auront plus jamais faim,\ntourne, tourne, tourne encore.",
    "it": "Passa il treno vicino al mare,\nciao, ciao, ciao, ciao.\nUna signora vuole cantare,\nciao, ciao, ciao, ciao.\n\n"
    "Passa il treno dentro il monte,\nciao, ciao, ciao, ciao.\nUn bambino saluta dal ponte,\nciao, ciao, ciao, ciao.",
    "ru": "Снег ложится на поля,\nспи, мой город, спи.\nБелой стала вся земля,\nспи, мой город, спи.\n\n"
    "Гаснут окна вдоль реки,\nспи, мой город, спи.\nТихо тикают часы-жуки,\nспи, мой город, спи.",
    "sw": "Mvua yaja, mvua yaja,\nhaya twende shambani.\nMama ameshika jembe,\nhaya twende shambani.\n\n"
    "Baba amebeba mbegu,\nhaya twende shambani.\nNdege wanaimba mtini,\nhaya twende shambani.",
    "id": "Perahu kecil di tepi kali,\nayo dayung, ayo dayung.\nMatahari naik lagi sekali,\nayo dayung, ayo dayung.\n\n"
    "Ikan melompat di balik batu,\nayo dayung, ayo dayung.\nKita pulang sebelum waktu,\nayo dayung, ayo dayung.",
    "hi": "चंदा निकला छत के ऊपर,\nसो जा मुन्ना सो जा।\nतारे झाँकें खिड़की से भीतर,\nसो जा मुन्ना सो जा।\n\nहवा सुनाए धीमी लोरी,\n"
    "सो जा मुन्ना सो जा।\nसपनों की है लंबी डोरी,\nसो जा मुन्ना सो जा।",
    "bn": "নদীর ধারে কাশের বন,\nচলো যাই, চলো যাই।\nনৌকা বাঁধা সারাক্ষণ,\nচলো যাই, চলো যাই।\n\nমেঘের ছায়া জলের পরে,\nচলো যাই, চলো যাই।\n"
    "পাখিরা সব ফিরছে ঘরে,\nচলো যাই, চলো যাই।",
    "ar": "القمر فوق بيتنا القديم،\nيا ليل طل يا ليل.\nوالورد نائم مع النسيم،\nيا ليل طل يا ليل.\n\nجدتي تحكي عن البحار،\n"
    "يا ليل طل يا ليل.\nوالنار تضحك قرب الجدار،\nيا ليل طل يا ليل.",
    "ko": "강물은 흘러 바다로 가고,\n아리 아리 아리랑.\n구름은 높이 산을 넘고,\n아리 아리 아리랑.\n\n"
    "할머니 등불 아래 앉아,\n아리 아리 아리랑.\n옛날이야기 들려주네,\n아리 아리 아리랑.",
    "zh": "小船儿轻轻靠着岸，\n摇啊摇，摇啊摇。\n外婆家门前月儿弯，\n摇啊摇，摇啊摇。\n\n稻田里青蛙唱着歌，\n摇啊摇，摇啊摇。\n"
    "萤火虫提灯过小河，\n摇啊摇，摇啊摇。",
    "ja": "雪がふる ふる 屋根の上、\nねんねんよ ねんねんよ。\n犬はこたつでまるくなる、\nねんねんよ ねんねんよ。\n\n"
    "風がふく ふく 森の中、\nねんねんよ ねんねんよ。\n星はしずかに見ているよ、\nねんねんよ ねんねんよ。",
    "th": "ฝนตกลงมาที่กลางนา\nร้องเพลงกัน มาร้องเพลงกัน\nกบน้อยออกมาดูปลา\nร้องเพลงกัน มาร้องเพลงกัน\n\nลมพัดใบไม้ลอยไป\n"
    "ร้องเพลงกัน มาร้องเพลงกัน\nดาวขึ้นเต็มฟ้าแสนไกล\nร้องเพลงกัน มาร้องเพลงกัน",
    "tr": "Değirmen döner, su akar,\ngel gidelim, gel gidelim.\nDağların başında kar var,\ngel gidelim, gel gidelim.\n\n"
    "Çoban kavalını çalar,\ngel gidelim, gel gidelim.\nAkşam olur, güneş batar,\ngel gidelim, gel gidelim.",
}

_TIMES = {
    "en": ("Seven times {} is {}.", "one two three four five six seven eight nine ten"),
    "de": ("Sieben mal {} ist {}.", "eins zwei drei vier fünf sechs sieben acht neun zehn"),
    "es": ("Siete por {} son {}.", "uno dos tres cuatro cinco seis siete ocho nueve diez"),
    "fr": ("Sept fois {} font {}.", "un deux trois quatre cinq six sept huit neuf dix"),
    "it": ("Sette per {} fa {}.", "uno due tre quattro cinque sei sette otto nove dieci"),
    "ru": ("Семь умножить на {} равно {}.", "один два три четыре пять шесть семь восемь девять десять"),
    "sw": ("Saba mara {} ni {}.", "moja mbili tatu nne tano sita saba nane tisa kumi"),
    "id": ("Tujuh kali {} sama dengan {}.", "satu dua tiga empat lima enam tujuh delapan sembilan sepuluh"),
    "tr": ("Yedi kere {} eşittir {}.", "bir iki üç dört beş altı yedi sekiz dokuz on"),
    "hi": ("सात गुणा {} बराबर {}।", "एक दो तीन चार पाँच छह सात आठ नौ दस"),
    "bn": ("সাত গুণ {} সমান {}।", "এক দুই তিন চার পাঁচ ছয় সাত আট নয় দশ"),
    "ar": ("سبعة ضرب {} يساوي {}.", "واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة عشرة"),
    "ko": ("칠 곱하기 {}은 {}입니다.", "일 이 삼 사 오 육 칠 팔 구 십"),
    "zh": ("七乘{}等于{}。", "一 二 三 四 五 六 七 八 九 十"),
    "ja": ("七かける{}は{}です。", "一 二 三 四 五 六 七 八 九 十"),
    "th": ("เจ็ดคูณ{}เท่ากับ{}", "หนึ่ง สอง สาม สี่ ห้า หก เจ็ด แปด เก้า สิบ"),
}
# What one eats or does on the days of a week, in lines alike.
_DAYS = {
    "en": (
        "On {} we eat {} for dinner.",
        "Monday Tuesday Wednesday Thursday Friday",
        "rice soup fish beans bread",
    ),
    "de": (
        "Am {} gibt es {} zum Abendessen.",
        "Montag Dienstag Mittwoch Donnerstag Freitag",
        "Reis Suppe Fisch Bohnen Brot",
    ),
    "es": (
        "El {} cenamos {} con ensalada.",
        "lunes martes miércoles jueves viernes",
        "arroz sopa pescado frijoles pan",
    ),
    "fr": (
        "Le {}, nous mangeons {} avec une salade.",
        "lundi mardi mercredi jeudi vendredi",
        "riz soupe poisson haricots pain",
    ),
    "it": (
        "Il {} mangiamo {} con l'insalata.",
        "lunedì martedì mercoledì giovedì venerdì",
        "riso zuppa pesce fagioli pane",
    ),
    "ru": (
        "В {} мы едим {} с салатом.",
        "понедельник вторник среду четверг пятницу",
        "рис суп рыбу фасоль хлеб",
    ),
    "sw": (
        "Siku ya {} tunakula {} na mboga.",
        "Jumatatu Jumanne Jumatano Alhamisi Ijumaa",
        "wali supu samaki maharage mkate",
    ),
    "id": (
        "Pada hari {} kami makan {} dengan sayur.",
        "Senin Selasa Rabu Kamis Jumat",
        "nasi sup ikan kacang roti",
    ),
    "tr": (
        "{} günü akşam yemeğinde {} yeriz.",
        "Pazartesi Salı Çarşamba Perşembe Cuma",
        "pilav çorba balık fasulye ekmek",
    ),
    "hi": ("{} को हम सलाद के साथ {} खाते हैं।", "सोमवार मंगलवार बुधवार गुरुवार शुक्रवार", "चावल सूप मछली राजमा रोटी"),
    "bn": ("{} আমরা সালাদের সঙ্গে {} খাই।", "সোমবার মঙ্গলবার বুধবার বৃহস্পতিবার শুক্রবার", "ভাত স্যুপ মাছ শিম রুটি"),
    "ar": (
        "يوم {} نأكل {} مع السلطة.",
        "الاثنين الثلاثاء الأربعاء الخميس الجمعة",
        "الأرز الحساء السمك الفاصوليا الخبز",
    ),
    "ko": (
        "{}에는 저녁으로 {} 먹습니다.",
        "월요일 화요일 수요일 목요일 금요일",
        "밥을 국을 생선을 콩을 빵을",
    ),
    "zh": ("{}我们晚饭吃{}和青菜。", "星期一 星期二 星期三 星期四 星期五", "米饭 汤 鱼 豆子 面包"),
    "ja": (
        "{}の夕食には{}と野菜を食べます。",
        "月曜日 火曜日 水曜日 木曜日 金曜日",
        "ご飯 スープ 魚 豆 パン",
    ),
    "th": ("{}เรากิน{}กับผักเป็นมื้อเย็น", "วันจันทร์ วันอังคาร วันพุธ วันพฤหัสบดี วันศุกร์", "ข้าว ซุป ปลา ถั่ว ขนมปัง"),
}
# Talk of two people.
TALK = {
    "en": "A: Is it far?\nB: No, it is not far.\nA: Is it cold?\nB: No, it is not cold.\nA: Shall we go?\nB: Yes, let us go now.",
    "de": "A: Ist es weit?\nB: Nein, es ist nicht weit.\nA: Ist es kalt?\nB: Nein, es ist nicht kalt.\nA: Gehen wir?\nB: Ja, gehen wir.",
    "es": "A: ¿Está lejos?\nB: No, no está lejos.\nA: ¿Hace frío?\nB: No, no hace frío.\nA: ¿Vamos?\nB: Sí, vamos ya.",
    "fr": "A : C'est loin ?\nB : Non, ce n'est pas loin.\nA : Il fait froid ?\nB : Non, il ne fait pas froid.\nA : On y va ?\nB : Oui, on y va.",
    "ru": "А: Это далеко?\nБ: Нет, это недалеко.\nА: Там холодно?\nБ: Нет, там не холодно.\nА: Пойдём?\nБ: Да, пойдём сейчас.",
    "sw": "A: Ni mbali?\nB: Hapana, si mbali.\nA: Kuna baridi?\nB: Hapana, hakuna baridi.\nA: Twende?\nB: Ndiyo, twende sasa.",
    "hi": "क: क्या वह दूर है?\nख: नहीं, दूर नहीं है।\nक: क्या वहाँ ठंड है?\nख: नहीं, ठंड नहीं है।\nक: चलें?\nख: हाँ, अभी चलते हैं।",
    "ar": "أ: هل هو بعيد؟\nب: لا، ليس بعيدا.\nأ: هل الجو بارد؟\nب: لا، ليس باردا.\nأ: هل نذهب؟\nب: نعم، لنذهب الآن.",
    "ko": "가: 멀어요?\n나: 아니요, 멀지 않아요.\n가: 추워요?\n나: 아니요, 춥지 않아요.\n가: 갈까요?\n나: 네, 지금 가요.",
    "zh": "甲：远吗？\n乙：不，不远。\n甲：冷吗？\n乙：不，不冷。\n甲：走吗？\n乙：好，现在就走。",
    "ja": "A：遠いですか。\nB：いいえ、遠くありません。\nA：寒いですか。\nB：いいえ、寒くありません。\nA：行きますか。\nB：はい、今行きます。",
    "id": "A: Apakah jauh?\nB: Tidak, tidak jauh.\nA: Apakah dingin?\nB: Tidak, tidak dingin.\nA: Kita pergi?\nB: Ya, ayo pergi sekarang.",
}
# Lines that begin alike and go on in their own way.
ANAPHORA = {
    "en": "I remember the house with the blue door.\nI remember the smell of bread on Sundays.\nI remember my sister's laugh in the yard.\n"
    "I remember the train that took us away.",
    "de": "Ich wünsche mir einen Garten mit Kirschbäumen.\nIch wünsche mir Zeit für lange Briefe.\nIch wünsche mir, dass der Krieg endet.\n"
    "Ich wünsche mir einen stillen Abend am See.",
    "es": "Quiero una casa cerca del río.\nQuiero aprender a tocar la guitarra.\nQuiero ver nevar en el desierto.\nQuiero que vuelvas antes de marzo.",
    "fr": "J'aime le bruit de la pluie sur les toits.\nJ'aime les marchés du dimanche matin.\nJ'aime quand tu ris sans raison.\nJ'aime rentrer tard en hiver.",
    "ru": "Я помню дом с голубой дверью.\nЯ помню запах хлеба по воскресеньям.\nЯ помню смех сестры во дворе.\nЯ помню поезд, который нас увёз.",
    "sw": "Nakumbuka nyumba yenye mlango wa buluu.\nNakumbuka harufu ya mkate siku ya Jumapili.\nNakumbuka kicheko cha dada yangu uani.\n"
    "Nakumbuka treni iliyotuchukua.",
    "tr": "Mavi kapılı evi hatırlıyorum.\nPazar günlerinin ekmek kokusunu hatırlıyorum.\nKız kardeşimin avludaki gülüşünü hatırlıyorum.\nBizi götüren treni hatırlıyorum.",
    "id": "Aku ingat rumah dengan pintu biru.\nAku ingat bau roti pada hari Minggu.\nAku ingat tawa adikku di halaman.\nAku ingat kereta yang membawa kami pergi.",
    "hi": "मुझे नीले दरवाज़े वाला घर याद है।\nमुझे रविवार की रोटी की खुशबू याद है।\nमुझे आँगन में बहन की हँसी याद है।\nमुझे वह रेलगाड़ी याद है जो हमें ले गई।",
    "ar": "أتذكر البيت ذا الباب الأزرق.\nأتذكر رائحة الخبز يوم الجمعة.\nأتذكر ضحكة أختي في الفناء.\nأتذكر القطار الذي أخذنا بعيدا.",
    "ko": "파란 문이 달린 집을 기억합니다.\n일요일의 빵 냄새를 기억합니다.\n마당에서 웃던 누나를 기억합니다.\n우리를 데려간 기차를 기억합니다.",
    "zh": "我记得那扇蓝色的门。\n我记得星期天面包的香味。\n我记得妹妹在院子里的笑声。\n我记得带走我们的那列火车。",
    "ja": "青いドアの家を覚えています。\n日曜日のパンの匂いを覚えています。\n庭で笑う妹を覚えています。\n私たちを運んだ汽車を覚えています。",
    "bn": "আমার নীল দরজার বাড়িটা মনে আছে।\nরবিবারের রুটির গন্ধ মনে আছে।\nউঠোনে বোনের হাসি মনে আছে।\nযে ট্রেন আমাদের নিয়ে গিয়েছিল তাও মনে আছে।",
}
# Of no one language: figures, code, data.
FIGURES = {
    "times": "\n".join(f"{a} x {b} = {a * b}" for a in (3, 4) for b in range(1, 11)),
    "squares": "\n".join(f"{n}² = {n * n}" for n in range(1, 15)),
    "a table": "| x | y | z |\n|---|---|---|\n"
    + "\n".join(f"| {n} | {n * 3} | {n * n} |" for n in range(1, 12)),
    "binary": "\n".join(f"{n:2} = {n:04b}" for n in range(12)),
    "fizz": "1 2 Fizz 4 Buzz Fizz 7 8 Fizz Buzz 11 Fizz 13 14 FizzBuzz 16 17 Fizz 19 Buzz",
    "dates": "\n".join(f"2024-0{month}-15: {month * 37 % 11} mm" for month in range(1, 10)),
    "csv": "id,name,age\n1,Asha,31\n2,Bakari,28\n3,Chiku,45\n4,Daudi,52\n5,Eshe,19\n6,Faraji,33",
    "json": '[{"id": 1, "ok": true, "name": "Asha"}, {"id": 2, "ok": false, "name": "Juma"}, {"id": 3, "ok": true, "name": "Neema"}]',
    "python": "class Box:\n    def __init__(self, width, height):\n        self.width = width\n        self.height = height\n\n"
    "    def area(self):\n        return self.width * self.height\n\n    def border(self):\n        return 2 * (self.width + self.height)\n",
    "switch": "switch (day) {\n  case 1: return 'mon';\n  case 2: return 'tue';\n  case 3: return 'wed';\n  case 4: return 'thu';\n  default: return '';\n}",
    "html": "<ul>\n  <li><a href='/home'>Home</a></li>\n  <li><a href='/news'>News</a></li>\n  <li><a href='/about'>About</a></li>\n</ul>",
    "css": ".a { color: red; margin: 0; }\n.b { color: blue; margin: 4px; }\n.c { color: green; padding: 2px; }\n.d { width: 30%; }",
    "asserts": "assert add(1, 1) == 2\nassert add(2, 5) == 7\nassert add(0, 0) == 0\nassert add(-1, 1) == 0\nassert add(9, 9) == 18",
    "sql": "INSERT INTO people VALUES (1, 'Asha', 31);\nINSERT INTO people VALUES (2, 'Juma', 28);\nINSERT INTO people VALUES (3, 'Neema', 45);",
    "chords": "C G Am F\nC G F C\nAm F C G\nAm F G G\nC G Am F\nF G C C",
    "solution": "x^2 - 5x + 6 = 0\n(x - 2)(x - 3) = 0\nx = 2 or x = 3\nCheck: 2^2 - 5*2 + 6 = 0\nCheck: 3^2 - 5*3 + 6 = 0",
}


def times_tables() -> dict[str, str]:
    """Seven times one to ten, in words, by language."""
    tables = {}
    for code, (pattern, words) in _TIMES.items():
        rows = enumerate(words.split(), start=1)
        tables[code] = "\n".join(pattern.format(word, 7 * number) for number, word in rows)
    return tables


def weeks() -> dict[str, str]:
    """A line per day, alike but for the day and the dish, by language."""
    return {
        code: "\n".join(pattern.format(*pair) for pair in zip(days.split(), dishes.split(), strict=True))
        for code, (pattern, days, dishes) in _DAYS.items()
    }


def by_language() -> list[tuple[str, str, str]]:
    """Language, kind and text of all that are of one language."""
    kinds = {"verse": VERSE, "times": times_tables(), "week": weeks(), "talk": TALK, "anaphora": ANAPHORA}
    return [(code, kind, text) for kind, texts in kinds.items() for code, text in texts.items()]
