"""Every word that a prompt adds to an item, per language: the one table to review and to correct.

A key is used by the families named here; a family offered in a language needs all of its keys there.

- `answer`, `reply`: every option-letter task. `{letters}` stands for the letters of the options that exist.
- `premise`, `hypothesis`, `relation`, `entailment`, `neutral`, `contradiction`: XNLI.
- `question`, `steps`, `solve`, `final`: MGSM. `question`, `steps` and `final` are worded as in the published
  exemplars, so that an exemplar and a prompt look alike; `{number}` stands for the answer.
- `cause`, `effect`: XCOPA. `ending`: XStoryCloze. `blank`: XWinograd.
"""

from __future__ import annotations

from lens_eval.base.errors import UserError, did_you_mean

LETTERS = ("A", "B", "C", "D")
# The order of the alphabet as taught for lists (abjad): the third letter is jim.
ARABIC_LETTERS = ("أ", "ب", "ج", "د")
# The released Lens evaluation has kaf in the third place; kept for its protocol only.
OFFICIAL_ARABIC_LETTERS = ("أ", "ب", "ك", "د")
# No space between sentences, nor before the answer: Chinese, Japanese and Thai. Burmese, whose script has no
# spaces between words either, has them between phrases.
NO_SPACE = frozenset({"zh", "ja", "th"})

FAMILY_WORDS: dict[str, tuple[str, ...]] = {
    "xnli": (
        "answer",
        "reply",
        "premise",
        "hypothesis",
        "relation",
        "entailment",
        "neutral",
        "contradiction",
    ),
    "mgsm": ("question", "steps", "solve", "final"),
    "xcopa": ("answer", "reply", "cause", "effect"),
    "xwinograd": ("answer", "reply", "blank"),
    "xstorycloze": ("answer", "reply", "ending"),
    "mmlu": ("answer", "reply"),
    "kmmlu": ("answer", "reply"),
    "mtbench": (),
}

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "answer": "Answer:",
        "reply": "Reply with one letter only ({letters}).",
        "premise": "Premise:",
        "hypothesis": "Hypothesis:",
        "relation": "How does the hypothesis relate to the premise?",
        "entailment": "It follows from the premise.",
        "neutral": "It may be true or false.",
        "contradiction": "It contradicts the premise.",
        "question": "Question:",
        "steps": "Step-by-Step Answer:",
        "solve": (
            "Solve the following math problem. Write out the steps in English and end with the sentence "
            "“The answer is”, followed by the number."
        ),
        "final": "The answer is {number}.",
        "cause": "What was the cause of this?",
        "effect": "What happened as a result?",
        "ending": "Which ending fits this story better?",
        "blank": "Which option belongs in the blank (_)?",
    },
    "zh": {
        "answer": "答案：",
        "reply": "请只回答一个字母（{letters}）。",
        "premise": "前提：",
        "hypothesis": "假设：",
        "relation": "假设与前提是什么关系？",
        "entailment": "可以从前提推出。",
        "neutral": "可能为真，也可能为假。",
        "contradiction": "与前提矛盾。",
        "question": "问题：",
        "steps": "逐步解答：",
        "solve": "请解答下面的数学题。用中文写出解题步骤，并以“答案是”加上数字结尾。",
        "final": "答案是 {number}。",
        "cause": "造成这件事的原因是什么？",
        "effect": "这件事的结果是什么？",
        "ending": "哪个结尾更适合这个故事？",
        "blank": "空格（_）处应填入哪个选项？",
    },
    "ar": {
        "answer": "الإجابة:",
        "reply": "أجب بحرف واحد فقط ({letters}).",
        "premise": "المقدمة:",
        "hypothesis": "الفرضية:",
        "relation": "ما علاقة الفرضية بالمقدمة؟",
        "entailment": "تُستنتج من المقدمة.",
        "neutral": "قد تكون صحيحة أو خاطئة.",
        "contradiction": "تناقض المقدمة.",
        "cause": "ما سبب ذلك؟",
        "effect": "ماذا حدث نتيجة لذلك؟",
        "ending": "أي نهاية أنسب لهذه القصة؟",
    },
    "sw": {
        "answer": "Jibu:",
        "reply": "Jibu kwa herufi moja tu ({letters}).",
        "premise": "Kauli:",
        "hypothesis": "Dhana:",
        "relation": "Dhana ina uhusiano gani na kauli?",
        "entailment": "Inatokana na kauli.",
        "neutral": "Inaweza kuwa kweli au si kweli.",
        "contradiction": "Inapingana na kauli.",
        "question": "Swali:",
        "steps": "Jibu la Hatua kwa Hatua:",
        "solve": (
            "Tatua swali lifuatalo la hisabati. Andika hatua zote kwa Kiswahili na umalizie kwa maneno "
            "“Jibu ni” yakifuatiwa na nambari."
        ),
        "final": "Jibu ni {number}.",
        "cause": "Ni nini kilichosababisha hili?",
        "effect": "Ni nini kilichotokea kutokana na hili?",
        "ending": "Ni mwisho upi unaofaa zaidi kwa hadithi hii?",
    },
    "es": {
        "answer": "Respuesta:",
        "reply": "Responde solo con una letra ({letters}).",
        "premise": "Premisa:",
        "hypothesis": "Hipótesis:",
        "relation": "¿Qué relación tiene la hipótesis con la premisa?",
        "entailment": "Se deduce de la premisa.",
        "neutral": "Puede ser verdadera o falsa.",
        "contradiction": "Contradice la premisa.",
        "question": "Pregunta:",
        "steps": "Respuesta paso a paso:",
        "solve": (
            "Resuelve el siguiente problema de matemáticas. Escribe los pasos en español y termina con la frase "
            "«La respuesta es» seguida del número."
        ),
        "final": "La respuesta es {number}.",
        "ending": "¿Qué final encaja mejor con esta historia?",
    },
    "fr": {
        "answer": "Réponse :",
        "reply": "Réponds par une seule lettre ({letters}).",
        "premise": "Prémisse :",
        "hypothesis": "Hypothèse :",
        "relation": "Quel est le rapport entre l'hypothèse et la prémisse ?",
        "entailment": "Elle découle de la prémisse.",
        "neutral": "Elle peut être vraie ou fausse.",
        "contradiction": "Elle contredit la prémisse.",
        "question": "Question :",
        "steps": "Réponse étape par étape :",
        "solve": (
            "Résous le problème de mathématiques suivant. Écris les étapes en français et termine par la phrase "
            "« La réponse est », suivie du nombre."
        ),
        "final": "La réponse est {number}.",
        "blank": "Quelle option convient à la place du blanc (_) ?",
    },
    "de": {
        "answer": "Antwort:",
        "reply": "Antworte nur mit einem Buchstaben ({letters}).",
        "premise": "Prämisse:",
        "hypothesis": "Hypothese:",
        "relation": "In welchem Verhältnis steht die Hypothese zur Prämisse?",
        "entailment": "Sie folgt aus der Prämisse.",
        "neutral": "Sie kann wahr oder falsch sein.",
        "contradiction": "Sie widerspricht der Prämisse.",
        "question": "Frage:",
        "steps": "Schritt-für-Schritt-Antwort:",
        "solve": (
            "Löse die folgende Mathematikaufgabe. Schreibe die Schritte auf Deutsch auf und ende mit dem Satz "
            "„Die Antwort lautet“, gefolgt von der Zahl."
        ),
        "final": "Die Antwort lautet {number}.",
    },
    "ru": {
        "answer": "Ответ:",
        "reply": "Ответь только одной буквой ({letters}).",
        "premise": "Посылка:",
        "hypothesis": "Гипотеза:",
        "relation": "Как гипотеза соотносится с посылкой?",
        "entailment": "Она следует из посылки.",
        "neutral": "Она может быть верной или неверной.",
        "contradiction": "Она противоречит посылке.",
        "question": "Задача:",
        "steps": "Пошаговое решение:",
        "solve": (
            "Реши следующую математическую задачу. Запиши ход решения по-русски и закончи словами «Ответ —» и числом."
        ),
        "final": "Ответ — {number}.",
        "ending": "Какая концовка лучше подходит к этой истории?",
        "blank": "Какой вариант нужно вставить на место пропуска (_)?",
    },
    "th": {
        "answer": "คำตอบ:",
        "reply": "ตอบเป็นตัวอักษรเพียงตัวเดียว ({letters})",
        "premise": "ข้อความตั้งต้น:",
        "hypothesis": "สมมติฐาน:",
        "relation": "สมมติฐานสัมพันธ์กับข้อความตั้งต้นอย่างไร",
        "entailment": "สรุปได้จากข้อความตั้งต้น",
        "neutral": "อาจจริงหรือไม่จริงก็ได้",
        "contradiction": "ขัดแย้งกับข้อความตั้งต้น",
        "question": "โจทย์:",
        "steps": "คำตอบทีละขั้นตอน:",
        "solve": "จงแก้โจทย์คณิตศาสตร์ต่อไปนี้ เขียนขั้นตอนการคิดเป็นภาษาไทย และจบด้วยคำว่า “คำตอบคือ” ตามด้วยตัวเลข",
        "final": "คำตอบคือ {number}",
        "cause": "อะไรคือสาเหตุของเหตุการณ์นี้",
        "effect": "ผลที่เกิดขึ้นคืออะไร",
    },
    "bg": {
        "answer": "Отговор:",
        "reply": "Отговори само с една буква ({letters}).",
        "premise": "Предпоставка:",
        "hypothesis": "Хипотеза:",
        "relation": "Как се отнася хипотезата към предпоставката?",
        "entailment": "Следва от предпоставката.",
        "neutral": "Може да е вярна или невярна.",
        "contradiction": "Противоречи на предпоставката.",
    },
    "el": {
        "answer": "Απάντηση:",
        "reply": "Απάντησε με ένα μόνο γράμμα ({letters}).",
        "premise": "Προκείμενη:",
        "hypothesis": "Υπόθεση:",
        "relation": "Ποια είναι η σχέση της υπόθεσης με την προκείμενη;",
        "entailment": "Προκύπτει από την προκείμενη.",
        "neutral": "Μπορεί να είναι αληθής ή ψευδής.",
        "contradiction": "Αντιφάσκει με την προκείμενη.",
    },
    "hi": {
        "answer": "उत्तर:",
        "reply": "केवल एक अक्षर में उत्तर दें ({letters})।",
        "premise": "आधार वाक्य:",
        "hypothesis": "परिकल्पना:",
        "relation": "परिकल्पना का आधार वाक्य से क्या संबंध है?",
        "entailment": "यह आधार वाक्य से निकलती है।",
        "neutral": "यह सही भी हो सकती है और गलत भी।",
        "contradiction": "यह आधार वाक्य का खंडन करती है।",
        "ending": "इस कहानी के लिए कौन सा अंत अधिक उपयुक्त है?",
    },
    "tr": {
        "answer": "Cevap:",
        "reply": "Yalnızca tek bir harfle cevap ver ({letters}).",
        "premise": "Öncül:",
        "hypothesis": "Hipotez:",
        "relation": "Hipotezin öncülle ilişkisi nedir?",
        "entailment": "Öncülden çıkar.",
        "neutral": "Doğru da olabilir yanlış da.",
        "contradiction": "Öncülle çelişir.",
        "cause": "Bunun nedeni neydi?",
        "effect": "Bunun sonucunda ne oldu?",
    },
    "ur": {
        "answer": "جواب:",
        "reply": "صرف ایک حرف میں جواب دیں ({letters})۔",
        "premise": "مقدمہ:",
        "hypothesis": "مفروضہ:",
        "relation": "مفروضے کا مقدمے سے کیا تعلق ہے؟",
        "entailment": "یہ مقدمے سے اخذ ہوتا ہے۔",
        "neutral": "یہ درست بھی ہو سکتا ہے اور غلط بھی۔",
        "contradiction": "یہ مقدمے کی تردید کرتا ہے۔",
    },
    "vi": {
        "answer": "Trả lời:",
        "reply": "Chỉ trả lời bằng một chữ cái ({letters}).",
        "premise": "Tiền đề:",
        "hypothesis": "Giả thuyết:",
        "relation": "Giả thuyết có quan hệ gì với tiền đề?",
        "entailment": "Suy ra được từ tiền đề.",
        "neutral": "Có thể đúng hoặc sai.",
        "contradiction": "Mâu thuẫn với tiền đề.",
        "cause": "Nguyên nhân của việc này là gì?",
        "effect": "Kết quả của việc này là gì?",
    },
    "bn": {
        "answer": "উত্তর:",
        "reply": "শুধু একটি অক্ষরে উত্তর দিন ({letters})।",
        "question": "প্রশ্ন:",
        "steps": "ধাপে ধাপে উত্তর:",
        "solve": (
            "নিচের গণিতের সমস্যাটির সমাধান করুন। সমাধানের ধাপগুলি বাংলায় লিখুন এবং শেষে “উত্তর হল” লিখে সংখ্যাটি দিন।"
        ),
        "final": "উত্তর হল {number}।",
    },
    "ja": {
        "answer": "答え：",
        "reply": "アルファベット1文字だけで答えてください（{letters}）。",
        "question": "問題：",
        "steps": "ステップごとの答え：",
        "solve": "次の算数の問題を解いてください。途中の考え方を日本語で書き、最後に「答えは」に続けて数字を書いてください。",
        "final": "答えは{number}です。",
        "blank": "空欄（_）に入るのはどちらですか？",
    },
    "te": {
        "answer": "సమాధానం:",
        "reply": "ఒకే ఒక్క అక్షరంతో సమాధానం ఇవ్వండి ({letters}).",
        "question": "ప్రశ్న:",
        "steps": "దశలవారీగా సమాధానం:",
        "solve": ("కింది గణిత సమస్యను పరిష్కరించండి. పరిష్కార దశలను తెలుగులో రాసి, చివరగా “సమాధానం” అని రాసి సంఖ్యను ఇవ్వండి."),
        "final": "సమాధానం {number}.",
        "ending": "ఈ కథకు ఏ ముగింపు బాగా సరిపోతుంది?",
    },
    "ko": {
        "answer": "정답:",
        "reply": "알파벳 한 글자로만 답하세요 ({letters}).",
    },
    "et": {
        "answer": "Vastus:",
        "reply": "Vasta ainult ühe tähega ({letters}).",
        "cause": "Mis oli selle põhjus?",
        "effect": "Mis juhtus selle tagajärjel?",
    },
    "ht": {
        "answer": "Repons:",
        "reply": "Reponn ak yon sèl lèt ({letters}).",
        "cause": "Ki sa ki te lakòz sa?",
        "effect": "Ki sa ki te rive kòm rezilta?",
    },
    "id": {
        "answer": "Jawaban:",
        "reply": "Jawablah dengan satu huruf saja ({letters}).",
        "cause": "Apa penyebabnya?",
        "effect": "Apa akibatnya?",
        "ending": "Akhir manakah yang lebih cocok untuk cerita ini?",
    },
    "it": {
        "answer": "Risposta:",
        "reply": "Rispondi con una sola lettera ({letters}).",
        "cause": "Qual è stata la causa?",
        "effect": "Che cosa è successo di conseguenza?",
    },
    "qu": {
        "answer": "Kutichiy:",
        "reply": "Huk letrallawan kutichiy ({letters}).",
        "cause": "¿Imaraykutaq kay pasarqan?",
        "effect": "¿Imataq chaymanta pasarqan?",
    },
    "ta": {
        "answer": "விடை:",
        "reply": "ஒரே ஒரு எழுத்தில் மட்டும் விடையளிக்கவும் ({letters}).",
        "cause": "இதற்குக் காரணம் என்ன?",
        "effect": "இதன் விளைவாக என்ன நடந்தது?",
    },
    "pt": {
        "answer": "Resposta:",
        "reply": "Responda apenas com uma letra ({letters}).",
        "blank": "Qual opção preenche a lacuna (_)?",
    },
    "eu": {
        "answer": "Erantzuna:",
        "reply": "Erantzun letra bakar batekin ({letters}).",
        "ending": "Zein amaiera egokitzen zaio hobeto istorio honi?",
    },
    "my": {
        "answer": "အဖြေ:",
        "reply": "အက္ခရာတစ်လုံးတည်းဖြင့်သာ ဖြေပါ ({letters})။",
        "ending": "ဤဇာတ်လမ်းနှင့် ပိုကိုက်ညီသော အဆုံးသတ်သည် မည်သည်နည်း။",
    },
    "ca": {"answer": "Resposta:", "reply": "Respon només amb una lletra ({letters})."},
    "da": {"answer": "Svar:", "reply": "Svar kun med ét bogstav ({letters})."},
    "gu": {"answer": "જવાબ:", "reply": "ફક્ત એક અક્ષરમાં જવાબ આપો ({letters})."},
    "hr": {"answer": "Odgovor:", "reply": "Odgovori samo jednim slovom ({letters})."},
    "hu": {"answer": "Válasz:", "reply": "Csak egyetlen betűvel válaszolj ({letters})."},
    "hy": {"answer": "Պատասխան:", "reply": "Պատասխանիր միայն մեկ տառով ({letters})։"},
    "is": {"answer": "Svar:", "reply": "Svaraðu aðeins með einum bókstaf ({letters})."},
    "kn": {"answer": "ಉತ್ತರ:", "reply": "ಒಂದೇ ಅಕ್ಷರದಲ್ಲಿ ಮಾತ್ರ ಉತ್ತರಿಸಿ ({letters})."},
    "ml": {"answer": "ഉത്തരം:", "reply": "ഒരക്ഷരത്തിൽ മാത്രം ഉത്തരം നൽകുക ({letters})."},
    "mr": {"answer": "उत्तर:", "reply": "फक्त एका अक्षरात उत्तर द्या ({letters})."},
    "nb": {"answer": "Svar:", "reply": "Svar bare med én bokstav ({letters})."},
    "ne": {"answer": "उत्तर:", "reply": "एउटा अक्षरमा मात्र उत्तर दिनुहोस् ({letters})।"},
    "nl": {"answer": "Antwoord:", "reply": "Antwoord met slechts één letter ({letters})."},
    "ro": {"answer": "Răspuns:", "reply": "Răspunde doar cu o literă ({letters})."},
    "sk": {"answer": "Odpoveď:", "reply": "Odpovedz iba jedným písmenom ({letters})."},
    "sr": {"answer": "Одговор:", "reply": "Одговори само једним словом ({letters})."},
    "sv": {"answer": "Svar:", "reply": "Svara med endast en bokstav ({letters})."},
    "uk": {"answer": "Відповідь:", "reply": "Відповідай лише однією літерою ({letters})."},
}


def word(language: str, key: str) -> str:
    """Return the word or sentence `key` in a language.

    Raises `UserError` that names this file and the line to add where it is missing.
    """
    words = WORDS.get(language)
    if words is None:
        known = ", ".join(WORDS)
        raise UserError(
            f"no prompt words for language {language!r}{did_you_mean(language, WORDS)}; known: {known}; "
            f"add WORDS[{language!r}] in {__file__}"
        )
    if key not in words:
        raise UserError(
            f"no word {key!r} for language {language!r}; add WORDS[{language!r}][{key!r}] in {__file__}"
        )
    return words[key]


def letters(language: str, count: int, official: bool = False) -> list[str]:
    """Return the first `count` option letters of a language, at most four."""
    if language != "ar":
        return list(LETTERS[:count])
    return list((OFFICIAL_ARABIC_LETTERS if official else ARABIC_LETTERS)[:count])


def list_letters(language: str, count: int) -> str:
    """Return the option letters as a list in running text: "A, B, C", "A、B、C", "أ، ب، ج"."""
    comma = {"zh": "、", "ja": "、", "ar": "، ", "ur": "، "}.get(language, ", ")
    return comma.join(letters(language, count))


def label(language: str, key: str, value: str) -> str:
    """Return `value` behind its label: with a space, except after a full-width colon."""
    name = word(language, key)
    return f"{name}{value}" if name.endswith("：") else f"{name} {value}"
