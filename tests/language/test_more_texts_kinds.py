"""More texts of each kind on which verdicts failed, written without a look at the rules."""

from __future__ import annotations

import pytest

from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_eval.language.off_target import Verdict, get_judge
from lens_eval.language.reply_form import form_of

FORMS = [
    ("tr", "Kahveyi soğutmadan nasıl taşırım", "Kahveyi soğutmadan nasıl taşırım?", "echo"),
    (
        "vi",
        "Câu hỏi: Vì sao lá cây đổi màu vào mùa thu?\nCâu hỏi: Vì sao lá cây đổi màu vào mùa thu?",
        "Vì sao lá cây đổi màu vào mùa thu?",
        "echo",
    ),
    ("ar", "لماذا يتغير لون الأوراق في الخريف", "لماذا يتغير لون أوراق الشجر في الخريف؟", "echo"),
    ("th", "ทำไมใบไม้ถึงเปลี่ยนสีในฤดูใบไม้ร่วง ทำไมใบไม้ถึงเปลี่ยนสี", "ทำไมใบไม้ถึงเปลี่ยนสีในฤดูใบไม้ร่วง", "echo"),
    (
        "de",
        "Warum verfärben sich Blätter im Herbst? Weil der Baum das Chlorophyll abbaut und die gelben Farbstoffe sichtbar werden.",
        "Warum verfärben sich Blätter im Herbst?",
        "text",
    ),
    (
        "ko",
        "이것은 그것이고 그것은 이것이고 그것은 이것이고 그것은 이것이고 그것은 이것이고 그것은",
        "이것은 무엇인가요?",
        "loop",
    ),
    (
        "hi",
        "यह एक अच्छा सवाल है। यह एक अच्छा उत्तर है। यह एक अच्छा उत्तर है। यह एक अच्छा उत्तर है। यह एक अच्छा उत्तर है। यह",
        "सवाल?",
        "loop",
    ),
    (
        "fr",
        "Pour ouvrir un bocal, il faut tourner le couvercle du bocal, puis tourner le couvercle du pot, puis tourner le couvercle du bocal, puis tourner le couvercle du pot, puis tourner le couvercle du bocal, puis tourner le",
        "Comment ouvrir un bocal ?",
        "loop",
    ),
    ("zh", "我认为我认为我认为我认为我认为我认为我认为我认为我认为", "你怎么看？", "loop"),
    (
        "es",
        "¿Cuántos planetas hay en el sistema solar y cuál es el más grande?",
        "¿Cuántos planetas hay en el sistema solar y cuál es el más grande?",
        "echo",
    ),
    ("ja", "質問：太陽系にはいくつの惑星がありますか。", "太陽系にはいくつの惑星がありますか。", "echo"),
    (
        "ru",
        "Сколько планет в Солнечной системе и какая из них самая большая",
        "Сколько планет в Солнечной системе, и какая из них самая большая?",
        "echo",
    ),
    (
        "es",
        "En el sistema solar hay ocho planetas y el más grande es Júpiter.",
        "¿Cuántos planetas hay en el sistema solar y cuál es el más grande?",
        "text",
    ),
    ("ja", "太陽系には八つの惑星があります。", "太陽系にはいくつの惑星がありますか。", "text"),
    (
        "fr",
        "« Le chat dort. » est une phrase courte : le sujet est « le chat » et le verbe « dort ».",
        "Analyse la phrase : Le chat dort.",
        "text",
    ),
    ("ar", "الجواب هو أن الجواب هو أن الجواب هو أن الجواب هو أن الجواب هو أن", "ما هو الجواب؟", "loop"),
    (
        "de",
        "Das ist gut. Man kann sagen, dass es gut ist. Man kann sagen, dass es gut ist. Man kann sagen, dass es gut ist. Man kann sagen, dass",
        "Wie?",
        "loop",
    ),
    ("ja", "それは、それは、それは、それは、それは、それは、それは、", "何？", "loop"),
    (
        "sw",
        "1. Kula matunda\n2. Kula mboga\n3. Kula matunda\n4. Kula mboga\n5. Kula matunda\n6. Kula mboga\n7. Kula matunda\n8. Kula mboga",
        "Nile nini?",
        "loop",
    ),
    (
        "de",
        "Backe, backe Kuchen, der Bäcker hat gerufen. Wer will guten Kuchen backen, der muss haben sieben Sachen: Eier und Schmalz, Zucker und Salz.",
        "Reim",
        "text",
    ),
    (
        "en",
        "7 x 1 = 7\n7 x 2 = 14\n7 x 3 = 21\n7 x 4 = 28\n7 x 5 = 35\n7 x 6 = 42\n7 x 7 = 49\n7 x 8 = 56",
        "Seven table",
        "text",
    ),
    (
        "ko",
        "첫째 날: 걷기 30분\n둘째 날: 수영 20분\n셋째 날: 자전거 40분\n넷째 날: 휴식",
        "운동 계획",
        "text",
    ),
    ("zh", "肯尼亚的首都是内罗毕。", "肯尼亚的首都是哪里？", "text"),
    ("ja", "日本で一番高い山は富士山です。", "日本で一番高い山は何ですか？", "text"),
    ("ja", "日本で一番高い山は何ですか？答え", "日本で一番高い山は何ですか？", "echo"),
    ("th", "ประเทศไทยมีเมืองหลวงชื่อกรุงเทพ", "ประเทศไทยมีเมืองหลวงชื่ออะไร", "text"),
    ("zh", "法国的首都是哪里", "法国的首都是哪里？", "echo"),
    ("th", "ประเทศไทยมีเมืองหลวงชื่ออะไร", "ประเทศไทยมีเมืองหลวงชื่ออะไร", "echo"),
]

OUTCOMES = [
    ("sr-Latn", "Novi Sad leži na Dunavu i poznat je po velikom letnjem festivalu muzike.", "", "on_target"),
    ("sr", "Deca se igraju u dvorištu dok njihova baka sprema ručak za celu porodicu.", "", "on_target"),
    ("sr-Latn", "Voz polazi u sedam sati ujutru i stiže u Niš tek posle podne.", "", "on_target"),
    ("bn", "আমি yesterday বাজারে went because ছিল no food বাড়িতে and we were hungry", "", "central"),
    ("hi", "कल the meeting हुई but nobody came क्योंकि it was raining बहुत", "", "central"),
    ("ar", "ذهبت to the market أمس because كان عندنا no bread في البيت and my mother غاضبة", "", "central"),
    ("zh", "以下是答案。 I'm sorry, but I can't help with that request.", "", "central"),
    ("ko", "네, 알겠습니다. Here is the summary of the article you asked for.", "", "central"),
    ("ja", "わかりました。 Sure, I can help you with that today.", "", "central"),
    ("de", "Sure! Below is a short poem about autumn in German:", "", "central"),
    ("fr", "Here is a polite email to your landlord, written in French:", "", "central"),
    ("sw", "The following is a list of five ways to save water at home in Swahili:", "", "central"),
    (
        "es",
        "Estas son buenas:\n1. The Grand Budapest Hotel\n2. Eternal Sunshine of the Spotless Mind\n3. The Lord of the Rings: The Two Towers",
        "Películas",
        "on_target",
    ),
    ("ko", "1. The Dark Knight (2008) - 배트맨이 조커와 싸우는 이야기입니다.", "", "on_target"),
    (
        "ko",
        '{\n  "restaurant_name": "한옥 식당",\n  "opening_hours": "오전 아홉 시부터",\n  "menu": ["비빔밥", "냉면"]\n}',
        "",
        "on_target",
    ),
    ("ar", '{"animal": "الباندا", "food": "الخيزران", "favorite place to live": "الجبال"}', "", "on_target"),
    (
        "ja",
        "title: 雨の日の散歩\nauthor_name: 山田太郎\nshort_description: 雨の中を歩く少年の話です",
        "",
        "on_target",
    ),
    (
        "de",
        '{\n  "the name of the animal": "Großer Panda",\n  "what it likes to eat": "vor allem frischen Bambus aus den Bergen"\n}',
        "",
        "on_target",
    ),
    ("ja", "次のように書きます。\nimport numpy as np\nfrom collections import defaultdict", "", "on_target"),
    (
        "ko",
        "다음 쿼리를 사용하세요.\nSELECT name, age FROM users\nWHERE age > 30\nORDER BY name DESC;",
        "",
        "on_target",
    ),
    ("ru", "Появилась такая ошибка.\nModuleNotFoundError: No module named 'requests'", "", "on_target"),
    (
        "es",
        "Este es el código.\n// Return the largest value in the array\nfunction largest(a) {\n  return Math.max(...a);\n}",
        "",
        "on_target",
    ),
    ("zh", "运行后会报错。\nIndexError: list index out of range", "", "on_target"),
    (
        "de",
        "Dann erscheint diese Meldung.\nfatal: not a git repository (or any of the parent directories): .git",
        "",
        "on_target",
    ),
    (
        "es",
        "> The cat sleeps on the warm roof.\n\nEl gato duerme en el tejado caliente.",
        "Traduce al español: The cat sleeps on the warm roof.",
        "on_target",
    ),
    (
        "es",
        "*The cat sleeps on the warm roof.*\nEl gato duerme en el tejado caliente.",
        "Traduce al español: The cat sleeps on the warm roof.",
        "on_target",
    ),
    (
        "de",
        "‘The cat sleeps on the warm roof.’ heißt auf Deutsch: Die Katze schläft auf dem warmen Dach.",
        "Übersetze: The cat sleeps on the warm roof.",
        "on_target",
    ),
    (
        "es",
        "The cat sleeps on the warm roof\nEl gato duerme en el tejado caliente.",
        "Traduce al español: The cat sleeps on the warm roof.",
        "on_target",
    ),
    (
        "fr",
        "The cat sleeps on the warm roof. Le chat dort sur le toit chaud.",
        "Traduis : The cat sleeps on the warm roof.",
        "on_target",
    ),
    ("it", "Il cloud computing permette di salvare i dati su server lontani.", "", "on_target"),
    ("it", "Lo smart working è diventato comune dopo la pandemia.", "", "on_target"),
    ("de", "Das Team hat gestern ein Update für die Software hochgeladen.", "", "on_target"),
    ("it", "Il data mining è una tecnica molto usata nel marketing.", "", "on_target"),
    ("hi", "Bharat ki rajdhani Nayi Dilli hai aur yahan bahut log rehte hain.", "", "other"),
    ("ar", "Ana bahibb el qahwa fel sobh w ba3dein barooh el shoghl ma3a as7abi.", "", "other"),
    ("ja", "Watashi wa mainichi asa gohan o tabete kara gakkou ni ikimasu.", "", "other"),
    ("zh", "Wo meitian zaoshang chi zaofan, ranhou qu xuexiao shang xue.", "", "other"),
    ("ko", "Jeoneun maeil achim bapeul meokgo hakgyoe gamnida.", "", "other"),
    ("ru", "Утре ще отидем на пазара, защото трябва да купим хляб и сирене.", "", "other"),
    ("ru", "Завтра ми підемо на ринок, бо треба купити хліб і молоко.", "", "other"),
    ("ar", "فردا به بازار می\u200cرویم چون باید نان و پنیر بخریم.", "", "other"),
    ("ar", "کل ہم بازار جائیں گے کیونکہ ہمیں روٹی اور پنیر خریدنا ہے۔", "", "other"),
    ("hi", "उद्या आपण बाजारात जाऊ कारण आपल्याला भाकरी आणि दूध विकत घ्यायचे आहे.", "", "other"),
    ("es", "Amanhã vamos ao mercado porque precisamos comprar pão e queijo para a família.", "", "other"),
    ("es", "Domani andiamo al mercato perché dobbiamo comprare il pane e il formaggio.", "", "other"),
    (
        "id",
        "Esok kami akan pergi ke pasar kerana kami perlu membeli roti dan keju untuk keluarga.",
        "",
        "other",
    ),
    (
        "id",
        "Besok kami akan pergi ke pasar karena kami perlu membeli roti dan keju untuk keluarga.",
        "",
        "on_target",
    ),
    ("sw", "Jutri gremo na trg, ker moramo kupiti kruh in sir za družino.", "", "other"),
    ("de", "The weather is lovely this morning, deshalb gehen wir heute in den Park.", "", "central"),
    ("sw", "Ninapenda kusoma vitabu because they teach me many new things about the world.", "", "central"),
    ("es", "Mi hermana vive en Madrid and she works at a big hospital near the river.", "", "central"),
    ("fr", "Je want acheter some pain pour my famille because ils are hungry ce soir.", "", "central"),
    ("de", "Ich want heute to kaufen some Brot für my Familie because sie are hungrig.", "", "central"),
    ("sw", "Mimi want kununua some mkate kwa my familia because wana njaa.", "", "central"),
    (
        "ko",
        '{\n  "first_name": "민수",\n  "years of experience": 12,\n  "what he likes to do": "주말마다 산에 오르는 것"\n}',
        "",
        "on_target",
    ),
    (
        "hi",
        "name_of_the_dish: दाल चावल\nhow_to_cook: पहले चावल धोकर पानी में भिगो दें\ntime_needed: तीस मिनट",
        "",
        "on_target",
    ),
    (
        "es",
        '{\n"summary of the story": "Un niño busca a su perro por todo el pueblo.",\n"main characters": ["Luis", "su perro"],\n"where it takes place": "en un pueblo de montaña"\n}',
        "",
        "on_target",
    ),
    (
        "fr",
        "ingredients:\n  - deux tasses de lentilles rouges\n  - une boîte de tomates\nsteps:\n  - faire revenir les oignons dans l'huile\n  - ajouter les lentilles et laisser cuire",
        "",
        "on_target",
    ),
    (
        "ko",
        '오류가 납니다.\nZeroDivisionError: division by zero\n  File "main.py", line 3, in <module>',
        "",
        "on_target",
    ),
    ("hi", "यह त्रुटि आती है।\nbash: pip: command not found", "", "on_target"),
    (
        "zh",
        '代码如下：\nimport pandas as pd\nfrom sklearn.linear_model import LogisticRegression\ndf = pd.read_csv("a.csv")',
        "",
        "on_target",
    ),
    (
        "ar",
        "شغل هذا الأمر.\nnpm install express --save\nError: Cannot find module 'express'",
        "",
        "on_target",
    ),
    (
        "ja",
        "原文：“Practice makes perfect every single day.”\n訳：毎日の練習が完璧を作ります。",
        "次の文を訳してください：Practice makes perfect every single day.",
        "on_target",
    ),
    (
        "ru",
        "**Practice makes perfect every single day.** — это значит, что надо заниматься каждый день.",
        "Объясни: Practice makes perfect every single day.",
        "on_target",
    ),
    (
        "pt",
        "> Practice makes perfect every single day.\n> \n> A prática leva à perfeição todos os dias.",
        "Traduza: Practice makes perfect every single day.",
        "on_target",
    ),
    (
        "pt",
        "Practice makes perfect, and I would be happy to help you with that today.",
        "Traduza: Bom dia para todos vocês.",
        "central",
    ),
    (
        "hi",
        "1. द शॉशैंक रिडेम्पशन (The Shawshank Redemption) - जेल में दोस्ती की कहानी।\n2. Forrest Gump - एक सरल आदमी का जीवन।",
        "",
        "on_target",
    ),
    (
        "it",
        "- **Pride and Prejudice** di Jane Austen: una storia d'amore e di orgoglio.\n- **The Picture of Dorian Gray** di Oscar Wilde: un uomo che non invecchia.",
        "",
        "on_target",
    ),
    ("it", "Il fact checking è importante per i giornali online.", "", "on_target"),
    ("it", "Il deep learning è un ramo dell'intelligenza artificiale.", "", "on_target"),
    ("fr", "Le machine learning est une branche de l'informatique.", "", "on_target"),
    ("es", "El big data y el machine learning cambian la forma de trabajar.", "", "on_target"),
    ("it", "Il back office gestisce gli ordini e il call center risponde ai clienti.", "", "on_target"),
    (
        "es",
        "Here is a short story about a dog, written in Spanish:\nHabía una vez un perro que vivía en una granja.",
        "",
        "central",
    ),
    ("ja", "Certainly! Here's the translation in Japanese:", "", "central"),
    ("id", "Of course, here are three tips for learning a language in Indonesian:", "", "central"),
    ("sr-Latn", "Moja sestra studira medicinu u Beogradu i želi da radi u bolnici.", "", "on_target"),
    ("kk", "Алматы Қазақстандағы ең үлкен қала және таулардың етегінде орналасқан.", "", "on_target"),
    ("az", "Bakı Azərbaycanın paytaxtıdır və Xəzər dənizinin sahilində yerləşir.", "", "on_target"),
    ("pa", "ਅੰਮ੍ਰਿਤਸਰ ਪੰਜਾਬ ਦਾ ਇੱਕ ਵੱਡਾ ਸ਼ਹਿਰ ਹੈ ਅਤੇ ਇੱਥੇ ਹਰਿਮੰਦਰ ਸਾਹਿਬ ਹੈ।", "", "on_target"),
    ("hi", "Mujhe lagta hai ki kal barish hogi isliye chhata le jana mat bhoolna.", "", "other"),
    ("ja", "Kyou wa tenki ga ii kara kouen e sanpo ni ikimashou.", "", "other"),
    ("bn", "Ami kal bari jabo ebong mayer sathe dekha korbo.", "", "other"),
    ("zh", "Jintian tianqi hen hao, women qu gongyuan sanbu ba.", "", "other"),
    ("ar", "Al-qahira hiya asimat misr wa akbar madina fi al-alam al-arabi.", "", "other"),
    ("ru", "Днес времето е хубаво и децата играят навън в градината.", "", "other"),
    ("ru", "Сьогодні гарна погода, і діти граються надворі в садку.", "", "other"),
    ("hi", "आज हवामान छान आहे आणि मुले बागेत खेळत आहेत.", "", "other"),
    ("es", "Oggi il tempo è bello e i bambini giocano fuori nel giardino della scuola.", "", "other"),
    ("es", "Hoje o tempo está bom e as crianças brincam lá fora no jardim da escola.", "", "other"),
    ("ar", "امروز هوا خوب است و بچه\u200cها در حیاط مدرسه بازی می\u200cکنند.", "", "other"),
    ("id", "Hari ini cuaca baik dan kanak-kanak bermain di luar di taman sekolah kerana cuti.", "", "other"),
    (
        "ms",
        "Hari ini cuaca baik dan kanak-kanak bermain di luar kerana mereka cuti sekolah.",
        "",
        "on_target",
    ),
    ("fr", "Le train part à huit heures and it arrives in Paris before noon.", "", "central"),
    ("id", "Kucing itu tidur di atas sofa while the dog is waiting at the door.", "", "central"),
    ("hi", "मेरा भाई दिल्ली में रहता है and he works in a big office near the station.", "", "central"),
    ("es", "Mi hermano is viviendo in Madrid because trabaja for una empresa very grande.", "", "central"),
    ("pt", "O meu irmão is morando in Lisboa because trabalha for uma empresa very grande.", "", "central"),
    ("zh", "我 yesterday 去了 the market 因为 I wanted 买 some fresh 蔬菜 for dinner", "", "central"),
    (
        "de",
        "Die Photosynthese (engl. photosynthesis) wandelt Licht in chemische Energie um.",
        "",
        "on_target",
    ),
    (
        "es",
        "El estudio lo demuestra con claridad.\nSmith, J., & Brown, A. (2019). The effects of sleep on memory. Journal of Sleep Research, 12(3), 45-67.",
        "",
        "on_target",
    ),
    (
        "id",
        "Kecerdasan buatan adalah sebuah keberhasilan yang sangat penting dalam berbagai bidang. Berikut adalah 500 kata tentang kecerdasan buatan:",
        "",
        "on_target",
    ),
    ("de", "Jutri gremo na trg, ker moramo kupiti kruh in sir za družino.", "", "other"),
    ("id", "Jutri gremo na trg, ker moramo kupiti kruh in sir za družino.", "", "other"),
    ("es", "Jutri gremo na trg, ker moramo kupiti kruh in sir za družino.", "", "other"),
    ("tr", "Jutri gremo na trg, ker moramo kupiti kruh in sir za družino.", "", "other"),
    ("sw", "Sutra idemo na tržnicu jer moramo kupiti kruh i sir za obitelj.", "", "other"),
    ("ru", "Segodnya my poshli v magazin i kupili khleb, potomu chto doma nichego ne bylo", "", "other"),
]

FOREIGN = [
    ("ko", "이 방법은 非常 간단하고 누구나 쉽게 따라 할 수 있습니다."),
    ("ko", "우리는 내일 아침에 обязательно 산에 올라갈 예정입니다."),
    ("ja", "この料理はとても 맛있어서 毎日食べたいです。"),
    ("hi", "यह किताब बहुत интересная है और मैं इसे रोज़ पढ़ता हूँ।"),
    ("ar", "هذه الفكرة 重要 جدا ويجب أن نعمل عليها اليوم."),
    ("es", "La reunión fue muy good y todos estaban felices con el resultado."),
    ("zh", "这个方法非常 эффективно，大家都很喜欢。"),
    ("th", "เด็ก ๆ ชอบเล่น 游戏 ในสวนทุกวันหลังเลิกเรียน"),
    ("ru", "Мы вчера видели очень beautiful закат на берегу моря."),
]

NATIVE = [
    ("de", "Das Kind war müde, also ging es früh ins Bett und schlief sofort ein."),
    ("es", "Si has terminado la tarea, puedes salir a jugar con tus amigos."),
    ("th", "สำนักงาน (the main office) ของ FBI อยู่ในเมืองนี้มานานแล้ว"),
    ("ko", "그 기관(the agency)은 NATO 회원국의 BBC 방송국에 자료를 보냈습니다."),
]

TITLES = [
    (
        "es",
        "1. Casablanca\n2. The Godfather\n3. Singin' in the Rain\n4. Breakfast at Tiffany's",
        "Dime cuatro películas clásicas.",
    ),
    (
        "de",
        "- *To Kill a Mockingbird* von Harper Lee\n- *The Old Man and the Sea* von Ernest Hemingway",
        "Bücher?",
    ),
    (
        "fr",
        "1. The Silence of the Lambs\n2. The Good, the Bad and the Ugly\n3. One Flew Over the Cuckoo's Nest",
        "Trois films ?",
    ),
]


def _judged(language: str, text: str, prompt: str = "") -> Verdict:
    candidates = tuple(sorted({*DEFAULT_LANGUAGES, language.partition("-")[0]}))
    return get_judge("en", candidates).judge(text, language, prompt)


@pytest.mark.parametrize(("language", "text", "prompt", "form"), FORMS)
def test_form(language: str, text: str, prompt: str, form: str) -> None:
    assert form_of(text, prompt).name == form


@pytest.mark.parametrize(("language", "text", "prompt", "outcome"), OUTCOMES)
def test_outcome(language: str, text: str, prompt: str, outcome: str) -> None:
    assert _judged(language, text, prompt).outcome == outcome


@pytest.mark.parametrize(("language", "text"), FOREIGN)
def test_a_foreign_word_is_found(language: str, text: str) -> None:
    verdict = _judged(language, text)
    assert (verdict.outcome, len(verdict.foreign)) == ("on_target", 1)


@pytest.mark.parametrize(("language", "text"), NATIVE)
def test_a_native_word_or_an_abbreviation_is_not_foreign(language: str, text: str) -> None:
    verdict = _judged(language, text)
    assert (verdict.outcome, verdict.foreign) == ("on_target", ())


@pytest.mark.parametrize(("language", "text", "prompt"), TITLES)
def test_titles_do_not_make_a_list_english(language: str, text: str, prompt: str) -> None:
    assert _judged(language, text, prompt).outcome in ("on_target", "undetermined")
    assert _judged(language, "Here is a list of the films that I would watch.", prompt).outcome == "central"
