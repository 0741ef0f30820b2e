"""The one writer: nothing of the user's is overwritten, followed or lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lens_eval.base import files
from lens_eval.base.errors import UserError


@pytest.mark.parametrize("name", ["a.md", "a.md.partial"])
def test_no_link_is_written_through(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / name).symlink_to(victim)
    files.write_text(tmp_path / "a.md", "new")
    assert victim.read_text() == "mine"
    assert (tmp_path / "a.md").read_text() == "new"
    assert not (tmp_path / "a.md").is_symlink()


def test_lock_and_appended_files_follow_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".lock").symlink_to(victim)
    (tmp_path / "log").symlink_to(victim)
    with pytest.raises(UserError, match="symbolic link"), files.lock(tmp_path):
        pass
    with pytest.raises(UserError, match="symbolic link"):
        files.append_text(tmp_path / "log", "x")
    (tmp_path / "judge_x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="symbolic link"):
        files.make_folder(tmp_path / "judge_x", below=tmp_path)
    assert victim.read_text() == "mine"


def test_devices_and_pipes_are_no_place_for_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), tmp_path / "pipe", tmp_path):
        with pytest.raises(UserError):
            files.write_text(path, "x")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    "name", ["/dev/stdout", "/dev/fd/1", "/dev/x/../stdout", "/proc/self/fd/1", "/sys/x"]
)
def test_names_of_the_system_are_no_outputs(name: str) -> None:
    # Redirected, the first ones are ordinary files: root would replace the link to them for everybody.
    with pytest.raises(UserError, match="no ordinary file"):
        files.check_outputs([Path(name)])


def test_outputs_are_checked_before_work(tmp_path: Path) -> None:
    given = tmp_path / "in.jsonl"
    given.write_text("x")
    (tmp_path / "hard").hardlink_to(given)
    for outputs in ([given], [tmp_path / "hard"], [tmp_path / "a", tmp_path / "." / "a"]):
        with pytest.raises(UserError):
            files.check_outputs(outputs, [given])
    for path in (tmp_path / ("x" * 300), tmp_path / "none" / "a", given / "a", tmp_path):
        with pytest.raises(UserError, match="cannot write"):
            files.check_outputs([path])
    files.check_outputs([tmp_path / ("x" * 255), None], [given])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hard", "in.jsonl"]
    files.write_text(tmp_path / ("x" * 255), "long")


def test_a_lock_is_held_by_one_process_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lens_eval.base.files import lock\n"
        f"with lock(Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another run is at work"), files.lock(tmp_path):
            pass
        other.stdin.close()
    with files.lock(tmp_path):
        assert not [path for path in tmp_path.iterdir() if not files.is_leftover(path)]
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_kill_are_told_from_the_users_files(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "job.json.partial").write_text("{")
    (tmp_path / ".lock").write_text("")
    assert files.holds_nothing(tmp_path)
    (tmp_path / "training" / "mine.txt").write_text("x")
    assert not files.holds_nothing(tmp_path)


@pytest.mark.parametrize("name", ["", "..", "a/b", "lens_mtbench_/../../EVIL", "a\\b", "a\x1b[2J"])
def test_names_that_leave_a_folder(name: str) -> None:
    with pytest.raises(UserError):
        files.plain_name(name, "a task")
    assert files.plain_name("lens_mgsm_zh-Hans", "a task") == "lens_mgsm_zh-Hans"
