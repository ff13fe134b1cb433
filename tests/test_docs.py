"""Every Python snippet of the README and of docs/ runs, and so does every docstring example."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import tessella

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
COMPILED = {"tessella._core", "tessella._cuda"}


def snippets(page: Path) -> list[tuple[int, str]]:
    """Line and text of each ```python block."""
    text = page.read_text()
    return [(text.count("\n", 0, found.start(1)), found[1]) for found in SNIPPET.finditer(text)]


def run_plain(page: Path, line: int, code: str, scope: dict[str, object]) -> None:
    """Run a block as a script; line numbers in a traceback are those of the page."""
    exec(compile("\n" * line + code, str(page), "exec"), scope)


def run_prompts(page: Path, line: int, code: str, scope: dict[str, object]) -> None:
    """Run a block of >>> lines and compare what it prints."""
    test = doctest.DocTestParser().get_doctest(code, scope, page.name, str(page), line)
    heard: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=heard.append, clear_globs=False)
    scope.update(test.globs)
    assert result.failed == 0, "".join(heard)


def with_snippets() -> list[Path]:
    return [page for page in PAGES if snippets(page)]


@pytest.mark.parametrize("page", with_snippets(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order and share their names, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "__main__"}
    for line, code in snippets(page):
        (run_prompts if code.lstrip().startswith(">>>") else run_plain)(page, line, code, scope)


def modules() -> list[str]:
    found = pkgutil.walk_packages(tessella.__path__, "tessella.")
    return ["tessella", *(module.name for module in found if module.name not in COMPILED)]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=FLAGS, verbose=False)
    assert result.failed == 0


def test_readme_has_code_to_run() -> None:
    assert snippets(ROOT / "README.md")


def links(page: Path) -> list[Path]:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    return [(page.parent / target).resolve() for target in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not [target for target in links(page) if not target.exists()]


def test_every_page_is_reached_from_the_readme() -> None:
    reached, front = set(), {ROOT / "README.md"}
    while front:
        reached |= front
        front = {target for page in front for target in links(page) if target.suffix == ".md"} - reached
    assert reached >= set(PAGES)
