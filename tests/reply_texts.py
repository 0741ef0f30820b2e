"""A question and an answer to it in many languages, written for the tests of a reply's form."""

from __future__ import annotations

# code -> question, answer
QUESTIONS: dict[str, tuple[str, str]] = {
    "en": (
        "Why do leaves turn yellow in autumn, and what do the trees do in winter?",
        "When the days get shorter the green colour breaks down and other pigments begin to show. After that "
        "most of them rest until spring, which saves water while the ground is frozen.",
    ),
    "de": (
        "Warum werden die Blätter im Herbst gelb, und was machen die Bäume im Winter?",
        "Sobald die Tage kürzer werden, zerfällt der grüne Farbstoff, und andere kommen zum Vorschein. Danach "
        "ruhen die meisten bis zum Frühling, denn so sparen sie Wasser, solange der Boden gefroren ist.",
    ),
    "es": (
        "¿Por qué las hojas se ponen amarillas en otoño y qué hacen los árboles en invierno?",
        "Cuando los días se acortan, el pigmento verde se descompone y aparecen otros colores. Después la "
        "mayoría descansa hasta la primavera para no perder agua mientras el suelo está helado.",
    ),
    "fr": (
        "Pourquoi les feuilles jaunissent-elles en automne, et que font les arbres en hiver ?",
        "Lorsque les jours raccourcissent, le pigment vert se décompose et d'autres couleurs apparaissent. "
        "Ensuite la plupart se reposent jusqu'au printemps, ce qui économise l'eau quand le sol est gelé.",
    ),
    "it": (
        "Perché le foglie diventano gialle in autunno, e che cosa fanno gli alberi d'inverno?",
        "Quando le giornate si accorciano il pigmento verde si decompone e compaiono altri colori. Poi quasi "
        "tutti riposano fino a primavera, così risparmiano acqua mentre il terreno è gelato.",
    ),
    "pt": (
        "Por que as folhas ficam amarelas no outono e o que fazem as árvores no inverno?",
        "Quando os dias encurtam, o pigmento verde se desfaz e outras cores aparecem. Depois a maioria "
        "descansa até a primavera, o que poupa água enquanto o solo está congelado.",
    ),
    "ru": (
        "Почему осенью желтеют листья и что делают деревья зимой?",
        "Когда дни становятся короче, зелёный пигмент разрушается и проступают другие цвета. Потом почти все "
        "они отдыхают до весны, чтобы беречь воду, пока земля промёрзла.",
    ),
    "tr": (
        "Yapraklar sonbaharda neden sararır ve ağaçlar kışın ne yapar?",
        "Günler kısalınca yeşil renk maddesi parçalanır ve başka renkler ortaya çıkar. Sonra çoğu ilkbahara "
        "kadar dinlenir, böylece toprak donmuşken su harcamaz.",
    ),
    "sw": (
        "Kwa nini majani hugeuka manjano wakati wa vuli, na miti hufanya nini wakati wa baridi?",
        "Siku zinapokuwa fupi rangi ya kijani huvunjika na rangi nyingine huonekana. Baada ya hapo mingi "
        "hupumzika mpaka majira ya kuchipua ili kutunza maji ardhi ikiwa imeganda.",
    ),
    "id": (
        "Mengapa daun menguning pada musim gugur, dan apa yang dilakukan pohon pada musim dingin?",
        "Ketika hari menjadi lebih pendek, zat hijau terurai sehingga warna lain mulai tampak. Setelah itu "
        "sebagian besar beristirahat sampai musim semi agar tidak kehilangan air selagi tanah membeku.",
    ),
    "vi": (
        "Tại sao lá cây chuyển sang màu vàng vào mùa thu, và cây làm gì vào mùa đông?",
        "Khi ngày ngắn lại, chất diệp lục bị phân hủy và những màu khác hiện ra. Sau đó phần lớn nghỉ ngơi "
        "cho đến mùa xuân để không mất nước trong lúc đất đóng băng.",
    ),
    "hi": (
        "पतझड़ में पत्ते पीले क्यों हो जाते हैं और सर्दियों में पेड़ क्या करते हैं?",
        "जब दिन छोटे होने लगते हैं तब हरा रंग टूट जाता है और दूसरे रंग दिखने लगते हैं। उसके बाद ज़्यादातर वसंत तक आराम करते हैं, "
        "ताकि जमी हुई ज़मीन के समय पानी बचा रहे।",
    ),
    "bn": (
        "শরৎকালে পাতা কেন হলুদ হয়ে যায়, আর শীতকালে গাছেরা কী করে?",
        "দিন ছোট হয়ে এলে সবুজ রঞ্জক ভেঙে যায় এবং অন্য রং ফুটে ওঠে। তারপর বেশিরভাগই বসন্ত পর্যন্ত বিশ্রাম নেয়, যাতে মাটি জমে থাকার সময় "
        "জল নষ্ট না হয়।",
    ),
    "ar": (
        "لماذا تصفر أوراق الشجر في الخريف، وماذا تفعل الأشجار في الشتاء؟",
        "حين تقصر الأيام تتحلل الصبغة الخضراء فتظهر ألوان أخرى. بعد ذلك يستريح معظمها حتى الربيع كي لا يفقد "
        "الماء ما دامت التربة متجمدة.",
    ),
    "ko": (
        "가을에 나뭇잎이 왜 노랗게 변하고, 겨울에 나무는 무엇을 하나요?",
        "낮이 짧아지면 초록 색소가 분해되면서 다른 색이 드러납니다. 그 뒤 대부분은 봄까지 쉬면서 땅이 얼어 있는 동안 물을 아낍니다.",
    ),
    "zh": (
        "为什么秋天树叶会变黄，冬天树木又在做什么？",
        "白天变短以后，绿色的色素逐渐分解，其他颜色就显现出来。之后大多数树会休眠到春季，以便在土地冻结时节约水分。",
    ),
    "ja": (
        "なぜ秋に葉が黄色くなり、冬に木は何をしているのですか。",
        "日が短くなると緑の色素が分解され、ほかの色が見えてきます。その後はたいてい春まで休み、地面が凍っている間の水分を節約します。",
    ),
    "th": (
        "ทำไมใบไม้ถึงเปลี่ยนเป็นสีเหลืองในฤดูใบไม้ร่วง และต้นไม้ทำอะไรในฤดูหนาว",
        "เมื่อกลางวันสั้นลง สารสีเขียวจะสลายตัวและสีอื่นจึงปรากฏออกมา หลังจากนั้นส่วนใหญ่จะพักตัวจนถึงฤดูใบไม้ผลิ เพื่อไม่ให้เสียน้ำขณะที่ดินแข็งตัว",
    ),
}

# code -> sentences of their own that a weak model might repeat, the shortest first
REPEATED: dict[str, tuple[str, ...]] = {
    "en": (
        "and so on ",
        "It is a very good place to live. ",
        "You should drink water and then you should rest, ",
    ),
    "de": (
        "und so ",
        "Das ist ein sehr schöner Ort zum Leben. ",
        "Man sollte viel trinken und dann schlafen, ",
    ),
    "es": ("y luego ", "Es un lugar muy bueno para vivir. ", "La casa del hombre de la casa del hombre de "),
    "fr": (
        "et puis ",
        "C'est un très bon endroit pour vivre. ",
        "Il faut boire de l'eau et puis il faut dormir, ",
    ),
    "ru": ("и так ", "Это очень хорошее место для жизни. ", "Надо пить воду, а потом надо спать, "),
    "tr": ("ve sonra ", "Burası yaşamak için çok güzel bir yer. ", "Su içmelisin ve sonra dinlenmelisin, "),
    "sw": ("ya kawaida ", "Ni mahali pazuri sana pa kuishi. ", "Unapaswa kunywa maji kisha kupumzika, "),
    "id": (
        "dan juga ",
        "Tempat ini sangat baik untuk ditinggali. ",
        "Anda harus minum air lalu beristirahat, ",
    ),
    "vi": ("và rồi ", "Đây là một nơi rất tốt để sống. ", "Bạn nên uống nước rồi nghỉ ngơi, "),
    "hi": ("और फिर ", "यह रहने के लिए बहुत अच्छी जगह है। ", "आपको पानी पीना चाहिए और फिर आराम करना चाहिए, "),
    "bn": ("এবং তারপর ", "এটি বসবাসের জন্য খুব ভালো জায়গা। ", "আপনার জল খাওয়া উচিত এবং তারপর বিশ্রাম নেওয়া উচিত, "),
    "ar": ("ثم بعد ", "هذا مكان جيد جدا للعيش. ", "يجب أن تشرب الماء ثم يجب أن تستريح، "),
    "ko": ("그리고 ", "이곳은 살기에 아주 좋은 곳입니다. ", "물을 마시고 쉬어야 하며 "),
    "zh": ("的约", "这是一个非常适合居住的地方。", "首先要多喝水然后要好好休息，"),
    "ja": ("約の", "ここはとても住みやすいところです。", "水を飲んで休むことが大切で、"),
    "th": ("และก็", "ที่นี่เป็นที่ที่น่าอยู่มาก ", "คุณควรดื่มน้ำแล้วก็พักผ่อน "),
}
