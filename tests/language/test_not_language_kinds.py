"""Code, data, titles, quotations and citations in replies of many languages: set aside, whatever their words."""

from __future__ import annotations

import pytest

from lens_eval.language.off_target import Verdict, get_judge

ENGLISH = "I hope that this short answer helps you to understand the question better."
NATIVE = {
    "es": "Aquí tienes un ejemplo sencillo que puedes probar en tu ordenador.",
    "de": "Hier ist ein einfaches Beispiel, das du selbst ausprobieren kannst.",
    "fr": "Voici un exemple simple que vous pouvez essayer chez vous.",
    "sw": "Huu hapa mfano rahisi ambao unaweza kuujaribu nyumbani.",
    "id": "Berikut contoh sederhana yang dapat Anda coba di rumah.",
    "tr": "İşte evde deneyebileceğiniz basit bir örnek.",
    "ko": "집에서 직접 해 볼 수 있는 간단한 예시입니다.",
    "ja": "ご自宅で試せる簡単な例を紹介します。",
    "zh": "这里有一个可以在家里尝试的简单例子。",
    "ar": "إليك مثالا بسيطا يمكنك تجربته في المنزل.",
    "ru": "Вот простой пример, который можно попробовать дома.",
    "hi": "यह एक आसान उदाहरण है जिसे आप घर पर आज़मा सकते हैं।",
}
LANGUAGES = sorted(NATIVE)


def judged(text: str, language: str, prompt: str | None = None) -> Verdict:
    return get_judge().judge(text, language, prompt)


CODE = {
    "import of parts": "from sklearn.model_selection import train_test_split",
    "imports": "import numpy as np\nimport pandas as pd, os\nfrom typing import Any, Optional",
    "multi-line import": "from lens.language import (\n    first_word,\n    second_word,\n)",
    "java": "import java.util.Scanner;\n\npublic class Main {\n    public static void main(String[] args) {\n"
    '        System.out.println("Hello to all of you");\n    }\n}',
    "javascript": "const words = text.split(' ');\nfor (const word of words) {\n  console.log(word);\n}\nexport default words;",
    "typescript": "import { useState } from 'react';\ninterface Person {\n  name: string;\n  age: number;\n}",
    "c": '#include <stdio.h>\nint main(void) {\n    int number_of_words = 5;\n    printf("the sum is %d\\n", number_of_words);\n    return 0;\n}',
    "c++": '#include <iostream>\nusing namespace std;\nint main() {\n    cout << "Enter the number" << endl;\n}',
    "rust": 'use std::collections::HashMap;\nfn main() {\n    let mut words = HashMap::new();\n    println!("the words are {:?}", words);\n}',
    "go": 'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("this is the output")\n}',
    "ruby": 'def greet(name)\n  puts "Hello and welcome, #{name}"\nend',
    "php": "<?php\n$name = 'the name of the user';\necho \"Welcome to the site, $name\";\n?>",
    "r": 'library(ggplot2)\ndata <- read.csv("the_file.csv")\nggplot(data, aes(x = age, y = height)) + geom_point()',
    "kotlin": 'fun main() {\n    val words = listOf("one", "two")\n    println(words.size)\n}',
    "swift": "func area(of width: Double, and height: Double) -> Double {\n    return width * height\n}",
    "bash": '#!/bin/bash\nfor file in *.txt; do\n  echo "$file"\ndone',
    "shell": "$ pip install the-package\n$ git clone https://example.org/the/project.git\nsudo apt-get install python3",
    "powershell": "Get-ChildItem -Path C:\\Users | Where-Object { $_.Length -gt 100 }",
    "docker": 'FROM python:3.11\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\nCMD ["python", "app.py"]',
    "makefile": "all: build\n\nbuild:\n\tgcc -o main main.c\n\nclean:\n\trm -f main",
    "sql": "SELECT name, age\nFROM customers\nWHERE age > 30\nORDER BY name;",
    "sql join": "SELECT c.name, COUNT(o.id) AS number_of_orders\nFROM customers AS c\nLEFT JOIN orders AS o ON o.customer_id = c.id\n"
    "GROUP BY c.name\nHAVING COUNT(o.id) > 2;",
    "sql lower": "select name from customers where age > 30 order by name;",
    "sql create": "CREATE TABLE customers (\n    id INT PRIMARY KEY,\n    name VARCHAR(100) NOT NULL\n);",
    "html": "<html>\n<head><meta charset='utf-8'></head>\n<body>\n</body>\n</html>",
    "css": ".the-first-class {\n  color: red;\n  background-color: white;\n}",
    "traceback": 'Traceback (most recent call last):\n  File "main.py", line 3, in <module>\n    print(name)\n'
    "NameError: name 'name' is not defined",
    "type error": "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
    "java error": 'Exception in thread "main" java.lang.NullPointerException: Cannot invoke the method because it is null\n'
    "\tat com.example.Main.run(Main.java:14)",
    "gcc error": "main.c:5:10: error: expected ';' before 'return'",
    "rust error": "error[E0382]: borrow of moved value: `words`",
    "git error": "fatal: not a git repository (or any of the parent directories): .git",
    "bash error": "bash: python: command not found",
    "js error": "Uncaught ReferenceError: the variable is not defined\n    at <anonymous>:1:1",
    "log": "2024-03-01 12:00:01 ERROR [main] Could not open the file for reading\nINFO: the server was started on port 80",
    "comments": "# Load the data from the file and split it\ndata = load(path)\n# Print the first five of the rows\nprint(data[:5])",
    "js comments": "// This function returns the sum of the two numbers\nfunction sum(a, b) {\n  // add the numbers\n  return a + b;\n}",
    "docstring": 'def add(a, b):\n    """Return the sum of the two numbers that are given."""\n    return a + b',
    "block comment": "/*\n * This is the main function of the program\n */\nint main() { return 0; }",
    "python": 'def count_the_words(text):\n    words = text.split()\n    if len(words) > 10:\n        print("The text is too long")\n'
    "    return len(words)",
    "print only": 'print("Hello, this is the first line of the program")',
    "regex": 're.findall(r"\\b(the|and|for)\\b", text)',
    "latex": "\\begin{theorem}\nLet the sum of the angles be\n\\end{theorem}",
    "env": "export THE_PATH=/usr/local/bin\nexport DEBUG=true",
    "ini": "[section of the file]\nthe_first_key = some value\nthe_second_key = another value",
    "toml": '[tool.the-tool]\nname = "the name of it"\nversion = "1.0"',
    "cron": "0 5 * * 1 tar -zcf /var/backups/home.tgz /home/",
    "haskell": 'main :: IO ()\nmain = putStrLn "Hello to the world"',
}


@pytest.mark.parametrize("kind", CODE)
def test_code_and_messages_of_programs_are_set_aside(kind: str) -> None:
    wrong = []
    for language in LANGUAGES:
        for text in (f"{NATIVE[language]}\n\n{CODE[kind]}", f"{CODE[kind]}\n{NATIVE[language]}"):
            verdict = judged(text, language)
            if verdict.outcome != "on_target" or verdict.foreign:
                wrong.append((language, verdict.outcome, verdict.answered_in, verdict.foreign))
        if judged(f"{NATIVE[language]}\n\n{CODE[kind]}\n\n{ENGLISH}", language).outcome != "central":
            wrong.append((language, "the control"))
    assert not wrong


PROSE = [
    "Select the rice, wash it, and put it into the pot.",
    "From the first day on, we were very happy in the new house.",
    "Import taxes are paid by those who bring the goods into the country.",
    "Where the road ends = where the sea begins, as the old people say.",
    "Update your plans if the weather changes, and tell the others.",
    "Warning: do not touch the pot while it is hot.",
    "Error is human, and to forgive is divine, as they say.",
    "Note: the shop is closed on Sundays; the bakery is open.",
    "For example, a child may ask for a story before going to bed:",
    "# How to cook rice in a pot without burning it",
    "- Return the book to the library before the end of the month.",
    "Use a large pot and enough water, and stir from time to time.",
    "While the rice is cooking: cut the vegetables and heat the oil.",
    "name of the first child: Amina, name of the second child: Juma",
    "If you have any questions (or if anything is unclear), please ask me; I am here to help.",
    "Let me know what you think about it!",
    "Class begins at nine in the morning and ends at noon.",
    "Try again tomorrow when the shop is open.",
    "Create a list of the things that you need and go to the market.",
    "Delete from your mind all that makes you sad.",
]


@pytest.mark.parametrize("text", PROSE)
def test_english_prose_that_begins_as_code_does_is_central(text: str) -> None:
    for language in ("es", "ko", "sw"):
        assert judged(text, language).outcome == "central"
        assert judged(f"{NATIVE[language]}\n{text}", language).outcome == "central"


DATA = [
    ("ko", '{\n  "name": "김철수",\n  "occupation": "선생님입니다",\n  "favorite food": "비빔밥"\n}'),
    ("ko", "name: 김철수\noccupation: 선생님입니다\nfavorite_food: 비빔밥"),
    ("ja", '{"title": "雪の日", "summary": "小さな犬が森で友達を見つける話です。", "length_in_pages": 12}'),
    ("ja", "title: 雪の日\nsummary: 小さな犬が森で友達を見つける話です。\nnumber_of_pages: 12"),
    ("zh", '[\n  {"question": "天空为什么是蓝色的？", "answer": "因为大气散射了阳光。"}\n]'),
    (
        "zh",
        "recipe:\n  name: 西红柿炒鸡蛋\n  main_ingredients:\n    - 西红柿\n    - 鸡蛋\n  cooking_time: 十分钟",
    ),
    (
        "ar",
        '{\n  "first_name": "ليلى",\n  "place of birth": "القاهرة",\n  "biography": "تعمل معلمة في مدرسة صغيرة"\n}',
    ),
    ("hi", '{"name_of_the_city": "दिल्ली", "description": "यह भारत की राजधानी है और बहुत पुरानी है।"}'),
    ("ru", '{\n  "title": "Старый дом",\n  "main_character": "Маленькая собака, которая живёт у реки"\n}'),
    ("ru", "title: Старый дом\nmain_character: Маленькая собака, которая живёт у реки\nnumber_of_pages: 12"),
    (
        "es",
        '{\n  "name_of_the_dish": "Tortilla de patatas",\n  "how_to_cook_it": "Se fríen las patatas y se mezclan con los huevos."\n}',
    ),
    (
        "es",
        "name: Tortilla de patatas\ncooking_time: veinte minutos\ninstructions: Se fríen las patatas y se mezclan con los huevos.",
    ),
    (
        "de",
        '{"the_first_question": "Wie heißt die Hauptstadt von Kenia?", "the_correct_answer": "Die Hauptstadt heißt Nairobi."}',
    ),
    (
        "de",
        "- question: Wie heißt die Hauptstadt von Kenia?\n  answer: Die Hauptstadt von Kenia heißt Nairobi.",
    ),
    (
        "fr",
        "{'title': 'La vieille maison', 'summary_of_the_story': 'Un petit chien vit au bord de la rivière.'}",
    ),
    (
        "sw",
        '{\n  "name": "Asha",\n  "occupation": "Ni mwalimu wa shule ya msingi kijijini",\n  "favorite_food": "wali na maharage"\n}',
    ),
    ("bn", "name: রহিম\noccupation: তিনি একজন শিক্ষক\nfavorite_food: ভাত ও মাছ"),
    ("th", '{"name_of_the_dish": "ต้มยำกุ้ง", "how_to_cook": "ต้มน้ำแล้วใส่กุ้งกับสมุนไพร"}'),
]


@pytest.mark.parametrize(("language", "text"), DATA)
def test_keys_of_data_are_set_aside_and_values_are_not(language: str, text: str) -> None:
    assert judged(text, language).outcome == "on_target"
    assert judged(text, "sw" if language != "sw" else "es").outcome == "other"  # the control: values count


TITLES = {
    "numbered": "1. The Shawshank Redemption\n2. The Godfather\n3. One Flew Over the Cuckoo's Nest",
    "with years": "- The Lord of the Rings (2001)\n- Back to the Future (1985)\n- Gone with the Wind (1939)",
    "in bold": "1. **The Catcher in the Rye**\n2. **Of Mice and Men**\n3. **The Old Man and the Sea**",
    "with authors": '* "To Kill a Mockingbird" - Harper Lee\n* "The Grapes of Wrath" - John Steinbeck',
    "in italics": "1. *Bridge over Troubled Water*\n2. *With a Little Help from My Friends*",
    "by": "1. Pride and Prejudice by Jane Austen\n2. The Picture of Dorian Gray by Oscar Wilde",
    "songs": "1) Here Comes the Sun – The Beatles\n2) Blowin' in the Wind – Bob Dylan",
    "games": "• The Legend of Zelda: Breath of the Wild\n• Age of Empires II",
    "places": "- The Tower of London\n- The Statue of Liberty\n- The Museum of Modern Art",
    "companies": "1. Bank of America\n2. Johnson and Johnson\n3. The Home Depot",
}


@pytest.mark.parametrize("kind", TITLES)
def test_lists_of_titles_are_set_aside(kind: str) -> None:
    wrong = []
    for language in LANGUAGES:
        verdict = judged(f"{NATIVE[language]}\n{TITLES[kind]}", language)
        if verdict.outcome != "on_target":
            wrong.append((language, verdict.outcome, verdict.answered_in))
        if (
            judged(
                f"{NATIVE[language]}\n1. Put the rice into the pot\n2. Add water and salt\n3. Cook it",
                language,
            ).outcome
            != "central"
        ):
            wrong.append((language, "the control"))
    assert not wrong


def test_titles_with_what_they_are_about() -> None:
    lines = {
        "es": "1. **The Godfather** (1972): una familia de la mafia lucha por el poder.",
        "de": "1. **The Godfather** (1972): Eine Familie der Mafia kämpft um die Macht.",
        "fr": "1. The Godfather (1972) - une famille de la mafia se bat pour le pouvoir.",
        "sw": "1. The Godfather - familia ya wahalifu inapigania madaraka.",
        "ru": "1. The Godfather (1972) — семья мафии борется за власть.",
        "ko": "1. The Godfather (1972): 권력을 두고 싸우는 마피아 가족의 이야기입니다.",
        "ja": "1. 『The Godfather』（1972年）：権力を争うマフィアの家族の話です。",
        "zh": "1. The Godfather（1972）：一个黑手党家族争夺权力的故事。",
        "ar": "1. The Godfather (1972): عائلة من المافيا تتصارع على السلطة.",
        "hi": "1. The Godfather (1972): सत्ता के लिए लड़ते एक माफ़िया परिवार की कहानी।",
    }
    for language, line in lines.items():
        assert judged(line, language).outcome == "on_target"


SOURCE = "The farmers are waiting for the rain to come."
ANSWERS = {
    "es": "Los campesinos están esperando a que llegue la lluvia.",
    "de": "Die Bauern warten darauf, dass der Regen kommt.",
    "fr": "Les paysans attendent que la pluie arrive enfin.",
    "sw": "Wakulima wanasubiri mvua inyeshe katika mashamba yao.",
    "id": "Para petani menunggu hujan karena sawah mereka sudah kering.",
    "ru": "Крестьяне ждут, когда наконец пойдёт дождь.",
    "ar": "ينتظر الفلاحون هطول المطر على حقولهم.",
    "hi": "किसान अपने खेतों में बारिश होने का इंतज़ार कर रहे हैं।",
    "ko": "농부들은 비가 오기를 기다리고 있습니다.",
    "ja": "農家の人たちは雨が降るのを待っています。",
    "zh": "农民们正在等待下雨，因为田里太干了。",
    "th": "ชาวนากำลังรอให้ฝนตกลงมาในไร่นา",
}
MARKS = ("> {}\n", "*{}*\n", "**{}**\n", "_{}_\n", "‘{}’ ", "'{}' ", "“{}” ", "„{}“ ", "«{}» ", "「{}」", "『{}』", "({}) ", "[{}]\n",
         "{}\n", "{} ", '"{}" ', "- {}\n", "`{}`\n", "<{}>\n", "English: {}\n", "1. {}\n", "{} → ", "{} = ", "{} — ", "\"{}\": ", "### {}\n",
         "|{}|", "{}:\n")  # fmt: skip


@pytest.mark.parametrize("form", MARKS)
def test_the_prompt_repeated_in_any_marks_is_a_quotation(form: str) -> None:
    wrong = []
    for language, answer in ANSWERS.items():
        reply = form.format(SOURCE) + answer
        outcome = judged(
            reply, language, f"Translate into the language with the code {language}: {SOURCE}"
        ).outcome
        control = judged(reply, language).outcome
        if outcome != "on_target" or (control != "central" and "`" not in form and "<" not in form):
            wrong.append((language, outcome, control))
    assert not wrong


def test_a_part_of_the_prompt_repeated_is_a_quotation() -> None:
    prompt = "Explain this saying: a bird in the hand is worth two in the bush, because nobody can be sure."
    replies = {
        "es": "«a bird in the hand is worth two in the bush» significa que es mejor conservar lo que ya se tiene.",
        "de": "A bird in the hand is worth two in the bush: Das heißt, man soll behalten, was man schon hat.",
        "fr": "« A bird in the hand is worth two in the bush » veut dire qu'il vaut mieux garder ce que l'on a.",
        "sw": '"A bird in the hand is worth two in the bush" maana yake ni kuthamini kile ulicho nacho.',
        "ja": "「A bird in the hand is worth two in the bush」は、今あるものを大切にするという意味です。",
    }
    for language, reply in replies.items():
        assert judged(reply, language, prompt).outcome == "on_target"
        assert judged(reply, language).outcome == "central"  # the control


ASIDE = [
    (
        "es",
        "La inteligencia artificial (artificial intelligence) y el aprendizaje automático (machine learning, ML) están de moda.",
    ),
    ("fr", "Le traitement du langage (natural language processing) est un domaine de recherche actif."),
    ("ja", "機械学習（machine learning）は人工知能（artificial intelligence）の一分野です。"),
    ("zh", "自然语言处理（natural language processing）是人工智能的一个分支。"),
    ("ko", "자연어 처리(natural language processing)는 인공지능의 한 분야입니다."),
    ("ru", "Обработка языка (natural language processing) — это раздел информатики."),
    (
        "es",
        "Las fuentes son estas:\n[1] Smith, J. (2010). The history of the city and its people. Oxford University Press.",
    ),
    (
        "de",
        "Hier sind die Quellen, die ich dafür benutzt habe:\n- Miller, A. B. & Jones, C. (1999). On the nature of things. Journal of the Old World, 12(3), 1-20.",
    ),
    (
        "fr",
        "Voici les références que vous pouvez consulter :\n1. Brown, T., Green, K. (2020). Language models are few-shot learners. NeurIPS 2020.",
    ),
    (
        "sw",
        "Haya ni marejeo ambayo unaweza kuyasoma zaidi:\nSmith, J. (2010). The history of the coast and its people. London: The University Press.",
    ),
    (
        "ja",
        "参考にした文献は次のとおりです：\n[1] Vaswani, A. et al. (2017). Attention is all you need. In Advances in Neural Information Processing Systems.",
    ),
    (
        "zh",
        "以下是本文所引用的参考文献：\n[2] Devlin J, Chang M W, Lee K. BERT: Pre-training of deep bidirectional transformers for language understanding, 2018.",
    ),
    ("ko", "참고 문헌:\n- doi: 10.1000/182 The handbook of the identifiers and how they are used"),
]


@pytest.mark.parametrize(("language", "text"), ASIDE)
def test_terms_in_brackets_and_citations_are_set_aside(language: str, text: str) -> None:
    assert judged(text, language).outcome == "on_target"
    assert judged(f"{text}\n{ENGLISH}", language).outcome == "central"  # the control
