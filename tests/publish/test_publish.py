"""The card of a variant, the licence it takes over, and exactly what would go to the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_lens import save_model, save_prompts
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.base.files import file_hash
from lens_eval.commands.cli import app
from lens_eval.mini import backbone_path
from lens_eval.runs.keys import file_hash_of_variant
from lens_train import Job, LensConfig, Variant, train
from lens_train.checkpoint import Checkpoint
from lens_train.local_paths import is_local, last_part, without_paths
from lens_train.publish.base_files import licence_of, take_over
from lens_train.publish.card import write_card
from lens_train.publish.front_matter import Card, begins, ends, part_of, read_card, with_part
from lens_train.publish.upload import plan

LANGUAGES = ("en", "zh", "sw")
CARD = "---\nlicense: apache-2.0\nlicense_link: https://example.org/terms\n---\n\n# base\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a card and the files that state its licence."""
    folder = tmp_path_factory.mktemp("base") / "tiny-base"
    save_model(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    (folder / "LICENSE").write_text("terms\n", encoding="utf-8")
    (folder / "NOTICE.md").write_text("notice\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl", items=6)


def trained(base: Path, data: Path, output: Path, **settings: Any) -> Path:
    wanted = {"probe_items": 4, "train_items": 3, "epochs": 1, "show_replies": 0, **settings}
    train(Job("lens", str(base), data, LANGUAGES, output, device="cpu", settings=wanted))
    return output


@pytest.fixture(scope="module")
def variant(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(base, data, tmp_path_factory.mktemp("trained") / "tiny-lens")


@pytest.fixture
def copy(variant: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(variant, tmp_path / "tiny-lens"))


# --- the card ----------------------------------------------------------------------------------


def test_training_ends_with_a_card_of_what_was_done(variant: Path, data: Path) -> None:
    card = read_card((variant / "README.md").read_text(encoding="utf-8"))
    record = Variant.load(variant)
    assert card.matter["license"] == "apache-2.0"
    assert card.matter["language"] == list(LANGUAGES)
    assert card.matter["library_name"] == "transformers"
    for fact in (record.data["sha256"][:16], record.base["weights_sha256"][:16], "Swahili", "tiny-base"):
        assert fact in card.text
    for setting in LensConfig.__dataclass_fields__.keys() & record.settings.keys():
        assert f"| {setting} |" in card.text
    assert (variant / "LICENSE").read_text(encoding="utf-8") == "terms\n"
    assert (variant / "NOTICE.md").is_file()
    assert str(variant.parent) not in card.write()
    assert str(data) not in card.write()
    assert "None were measured" in card.text


def test_the_code_of_the_card_loads_the_model(variant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (variant / "README.md").read_text(encoding="utf-8")
    code = (
        text.partition("```python\n")[2].partition("```")[0].replace("max_new_tokens=64", "max_new_tokens=1")
    )
    monkeypatch.chdir(variant.parent)
    exec(compile(code, "README.md", "exec"), {})


def test_a_card_and_a_licence_decide_nothing(copy: Path) -> None:
    with_card, keyed = Checkpoint.open(str(copy)).identity, file_hash_of_variant(copy)
    everything = file_hash(copy)
    for name in ("README.md", "LICENSE", "NOTICE.md"):
        (copy / name).unlink()
    assert Checkpoint.open(str(copy)).identity == with_card
    assert file_hash_of_variant(copy) == keyed
    assert file_hash(copy) != everything  # the control: the plain hash does see them
    (copy / "config.json").write_text("{}", encoding="utf-8")
    assert file_hash_of_variant(copy) != keyed


def test_what_its_owner_writes_stays(copy: Path) -> None:
    file = copy / "README.md"
    text = file.read_text(encoding="utf-8").replace("license: apache-2.0", "license: mit")
    file.write_text(f"{text}\n## From me\n\nMy words.\n", encoding="utf-8")
    write_card(copy, results="## Results\n\nMeasured: 7.")
    again = file.read_text(encoding="utf-8")
    assert "My words." in again
    assert "license: mit" in again
    assert "Measured: 7." in again
    assert "None were measured" not in again
    write_card(copy)  # results that are there stay until there are others
    assert file.read_text(encoding="utf-8") == again
    file.write_text("# mine alone\n", encoding="utf-8")
    with pytest.raises(UserError, match="was not written by lens card"):
        write_card(copy)
    assert file.read_text(encoding="utf-8") == "# mine alone\n"


def test_replies_counted_in_training_stand_in_the_card(base: Path, data: Path, tmp_path: Path) -> None:
    made = trained(base, data, tmp_path / "with-replies", show_replies=2)
    text = (made / "README.md").read_text(encoding="utf-8")
    replies = Variant.load(made).outcome["replies"]
    was, now = (replies[time]["sw"]["off_target"] for time in ("before", "after"))
    assert "usable, before → after" in text
    assert f"| {was} → {now} |" in text


def test_a_merged_delta_has_a_card_too(base: Path, data: Path, tmp_path: Path) -> None:
    delta = trained(base, data, tmp_path / "delta", delta=True)
    assert "lens merge --delta" in (delta / "README.md").read_text(encoding="utf-8")
    merged = tmp_path / "merged"
    done = CliRunner().invoke(
        app,
        ["merge", "--delta", str(delta), "--model", str(base), "--output", str(merged)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "pipeline('text-generation', 'merged')" in (merged / "README.md").read_text(encoding="utf-8")


def test_the_licence_is_that_of_the_base_or_not_known(tmp_path: Path) -> None:
    assert licence_of(backbone_path()) == {"license": "mit"}
    (tmp_path / "README.md").write_text("---\nlicense: [1, {a: b}]\n---\nx", encoding="utf-8")
    assert licence_of(tmp_path) == {}
    (tmp_path / "README.md").write_text("---\n: : :\n- [\n---\nx", encoding="utf-8")
    assert licence_of(tmp_path) == {}
    output = tmp_path / "out"
    output.mkdir()
    assert take_over("nobody/no-such-model", output) == {}  # the hub is offline in tests
    assert not list(output.iterdir())


WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)


@given(WORDS, WORDS, WORDS)
def test_a_part_is_replaced_and_nothing_else(before: str, first: str, second: str) -> None:
    text = with_part(before, "about", first)
    assert part_of(text, "about") == f"{first.strip()}\n"
    again = with_part(text, "about", second)
    assert again == text.replace(
        f"{begins('about')}\n{first.strip()}\n{ends('about')}",
        f"{begins('about')}\n{second.strip()}\n{ends('about')}",
    )


@given(st.dictionaries(st.sampled_from(["license", "language", "tags"]), WORDS | st.lists(WORDS)), WORDS)
def test_a_card_is_read_as_it_was_written(matter: dict[str, Any], text: str) -> None:
    if not matter and text.startswith("---"):
        return
    found = read_card(Card(matter, text).write())
    assert found.matter == matter
    assert found.text == (text.lstrip("\n") if matter else text)


# --- what goes to the hub ------------------------------------------------------------------------


def test_a_dry_run_shows_what_would_go_and_nothing_tells_of_the_machine(copy: Path, data: Path) -> None:
    (copy / "training" / "state.safetensors").write_bytes(b"optimiser")
    (copy / "state.safetensors").write_bytes(b"optimiser")
    (copy / "notes.txt").write_text("mine", encoding="utf-8")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["_name_or_path"] = str(data)
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    before = file_hash(copy)
    chosen = plan(copy, "somebody/tiny-lens")
    names = [file.name for file in chosen.files]
    assert names == sorted(set(names), key=names.index)
    assert {"README.md", "LICENSE", "NOTICE.md", "config.json", "variant.json", "model.safetensors"} <= set(
        names
    )
    assert {"training/log.jsonl", "training/job.json", "training/state.safetensors"} <= set(chosen.stays)
    assert {"state.safetensors", "notes.txt"} <= set(chosen.stays)
    for file in chosen.files:
        text = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        assert str(data.parent).encode() not in text, file.name
        assert str(copy.parent).encode() not in text, file.name
    # The control: the folder's own files do hold such paths.
    assert str(data) in (copy / "config.json").read_text(encoding="utf-8")
    assert file_hash(copy) == before  # nothing in the folder was changed
    card = next(file.content for file in chosen.files if file.name == "README.md")
    assert isinstance(card, bytes)
    assert "pipeline('text-generation', 'somebody/tiny-lens')" in card.decode()
    done = CliRunner().invoke(
        app, ["push", str(copy), "somebody/tiny-lens", "--dry-run"], catch_exceptions=False
    )
    assert done.exit_code == 0
    for file in chosen.files:
        assert f"{file.size:,}  {file.name}\n" in done.stdout
    assert "nothing was sent" in done.stdout


def test_the_base_is_named_by_its_hub_id(copy: Path) -> None:
    chosen = plan(copy, "somebody/tiny-lens", base="maker/tiny-base")
    found = {file.name: file.content for file in chosen.files}
    card = read_card(bytes(found["README.md"]).decode())  # type: ignore[arg-type]
    assert (card.matter["base_model"], card.matter["base_model_relation"]) == ("maker/tiny-base", "finetune")
    assert json.loads(bytes(found["variant.json"]))["base"]["name"] == "maker/tiny-base"  # type: ignore[arg-type]


def test_a_delta_that_names_its_base_by_a_path_is_refused(base: Path, data: Path, tmp_path: Path) -> None:
    delta = trained(base, data, tmp_path / "delta", delta=True)
    with pytest.raises(UserError, match=r"needs its base, which it knows by the path .*--base OWNER/NAME"):
        plan(delta, "somebody/delta")
    chosen = plan(delta, "somebody/delta", base="maker/tiny-base")
    assert "delta.safetensors" in [file.name for file in chosen.files]


def test_mistakes_are_found_before_anything_is_sent(copy: Path, tmp_path: Path) -> None:
    for name in ("tiny", "a/b/c", "../x", "a/b c"):
        with pytest.raises(UserError, match="on the hub it is OWNER/NAME"):
            plan(copy, name)
    with pytest.raises(UserError, match="holds no trained variant"):
        plan(tmp_path, "a/b")
    card = copy / "README.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(f"{text}\nSee {copy.parent}/more.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"README.md holds a path of this machine"):
        plan(copy, "a/b")
    card.write_text(f"{text}\nhf_{'a1' * 12}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"README.md holds a secret"):
        plan(copy, "a/b")
    card.unlink()
    with pytest.raises(UserError, match=r"has no model card; lens card"):
        plan(copy, "a/b")


def test_a_hub_that_cannot_be_asked_is_said_in_words(copy: Path) -> None:
    with pytest.raises(UserError, match="hub cannot be"):
        CliRunner().invoke(app, ["push", str(copy), "somebody/tiny-lens"], catch_exceptions=False)


@given(st.text(max_size=30))
def test_no_local_path_is_left(text: str) -> None:
    assert not is_local(last_part(text))
    assert without_paths({"a": [text]}) == {"a": [last_part(text)]}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/home/me/models/gemma", "gemma"),
        ("./runs/lens", "lens"),
        ("~/x/y.jsonl", "y.jsonl"),
        ("C:\\models\\gemma", "gemma"),
        ("google/gemma-3-270m", "google/gemma-3-270m"),
        ("builtin:train", "builtin:train"),
        ("lr / 2", "lr / 2"),
    ],
)
def test_a_path_is_told_from_a_hub_id(value: str, shown: str) -> None:
    assert last_part(value) == shown
