"""A chat template that fails, never ends, writes too much, or leaves the prompt out is told in one line."""

from __future__ import annotations

import pytest
import tiny_lens

from lens_eval.base import templates
from lens_eval.base.errors import UserError
from lens_eval.base.templates import rendered
from lens_train.data import Renderer

MESSAGES = [
    {"role": "user", "content": "first question"},
    {"role": "assistant", "content": "reply"},
    {"role": "user", "content": "second  question"},
]


def test_the_prompt_of_every_turn_is_in_it() -> None:
    whole = "<u>first question<a>reply<u>second question"
    assert rendered(lambda: whole, MESSAGES, "m") == whole
    for missing in ("<u>first question<a>reply<u>", "<u>second question", ""):
        with pytest.raises(UserError, match="leaves the prompt out"):
            rendered(lambda text=missing: text, MESSAGES, "m")


def test_turns_that_are_swapped_or_shared_and_a_lost_system_message_are_refused() -> None:
    for swapped in ("<u>second question<a>reply<u>first question", "<u>first question<a>reply"):
        with pytest.raises(UserError, match="leaves the prompt out"):
            rendered(lambda text=swapped: text, MESSAGES, "m")
    twice = [{"role": "user", "content": "again"}, {"role": "user", "content": "again"}]
    assert rendered(lambda: "again, again", twice, "m")
    with pytest.raises(UserError, match="leaves the prompt out"):
        rendered(lambda: "again", twice, "m")
    told = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    whole = "<u>first question<a>reply<u>Be brief.second question"
    assert rendered(lambda: whole, told, "m", system=True) == whole, "some put it into the last turn"
    without = whole.replace("Be brief.", "")
    assert rendered(lambda: without, told, "m") == without, "lm_eval leaves out what a template refuses"
    with pytest.raises(UserError, match="leaves the system message out"):
        rendered(lambda: without, told, "m", system=True)


TEMPLATES = [
    (
        "{% for m in messages %}{% for p in m.content if p is mapping %}{{ p.text }}{% endfor %}{% endfor %}",
        "leaves",
    ),
    ("{{ raise_exception('not\\nthis') }}", "TemplateError: not this"),
    ("{% for m in messages %}{{ m['content'] }", "TemplateSyntaxError"),
    ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "does not come to an end",
    ),
    ("{% for m in messages %}{{ m['content'] * 2000000 }}{% endfor %}", "characters around a prompt"),
]


@pytest.mark.parametrize(("template", "words"), TEMPLATES)
def test_every_fault_of_a_template_is_one_line(
    template: str, words: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lens_train.checkpoint import Checkpoint

    monkeypatch.setattr(templates, "SECONDS", 2.0)
    folder = tiny_lens.save_model(tmp_path_factory.mktemp("m") / "model")
    tokenizer = Checkpoint.open(str(folder)).tokenizer
    Renderer(tokenizer, "chat", None)  # control: the template as it was
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=words) as caught:
        Renderer(tokenizer, "chat", None)
    assert "\n" not in str(caught.value)
