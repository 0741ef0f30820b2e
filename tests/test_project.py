"""The project's own files agree: one version, hooks and CI that run what `make` runs, links that hold."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess

import pytest
import yaml
from test_rooms import ROOT

from lens_eval.base.project import VERSION

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/architecture.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_one() -> None:
    assert yaml.safe_load(read("CITATION.cff"))["version"] == VERSION
    released = re.findall(r"^## \[(\d[^\]]*)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert released[0] == VERSION
    assert 'path = "lens_eval/base/project.py"' in read("pyproject.toml")
    assert not re.search(r'^version = "', read("pyproject.toml"), re.MULTILINE)


def test_the_paper_is_named_alike() -> None:
    paper = yaml.safe_load(read("CITATION.cff"))["preferred-citation"]["url"]
    assert f'Paper = "{paper}"' in read("pyproject.toml")
    assert paper in read("README.md")


def test_the_oldest_python_is_the_first_that_is_named() -> None:
    text = read("pyproject.toml")
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    assert named == ["3.10", "3.11", "3.12", "3.13"]
    assert f'requires-python = ">={named[0]}"' in text
    assert (ROOT / "lens_eval" / "py.typed").exists()


def test_the_hooks_are_what_make_check_runs() -> None:
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    ran = subprocess.run(["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    for hook in hooks:
        assert hook["entry"].removeprefix(".venv/bin/") in ran.stdout.replace(
            "ruff format --check", "ruff format"
        )
    assert len(hooks) == 3


def test_ci_runs_the_project_s_own_script_and_the_newest_versions() -> None:
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 takes `on` for true
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == ["bash .ci/run", "make test-newest", "make site"]
    # Under `make test`, a make of our own takes over its flags and names the directory it enters and leaves.
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for command in ("test-newest", "test"):
        done = subprocess.run(
            ["make", "--dry-run", command], cwd=ROOT, env=outside, capture_output=True, text=True, check=True
        )
        assert done.stdout.rstrip().endswith("/python -m pytest -n auto --dist loadfile")
        assert ("constraints.txt" in done.stdout) <= (command == "test")


def test_the_site_has_every_page_and_no_link_out_of_it() -> None:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "packaging" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    named = set(re.findall(r"(\w+\.md)$", read("mkdocs.yml"), re.MULTILINE))
    pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
    assert named == {"index.md", "reference.md", *pages}
    pages |= {"index.md": hooks.first_page(), "reference.md": hooks.REFERENCE}
    before = "".join(pages.values())
    assert "](../lens_train/config.py)" in before  # the control: there are such links
    for name, text in pages.items():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", hooks.inside(text)):
            assert target.startswith("https://") or target in pages, f"{name}: {target}"


@pytest.mark.parametrize("form", ["bug", "wrong_verdict"])
def test_forms_of_issues_can_be_shown(form: str) -> None:
    found = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{form}.yml"))
    assert found["name"]
    assert found["description"]
    for field in found["body"]:
        assert field["type"] in ("textarea", "input")
        assert field["attributes"]["label"]
    assert len({field["id"] for field in found["body"]}) == len(found["body"])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", read(page)):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_contributing_names_make_targets_and_folders_that_exist() -> None:
    text = read("CONTRIBUTING.md")
    for target in set(re.findall(r"\bmake ([a-z-]+)`", text)) | {"check"}:
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, target
    for folder in set(re.findall(r"`(tests/[a-z]+)/`", text)):
        assert (ROOT / folder).is_dir(), folder
    rooms = {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))
    }
    for package in (ROOT / "lens_eval").glob("*/__init__.py"):
        assert package.parent.name in rooms, package.parent.name
