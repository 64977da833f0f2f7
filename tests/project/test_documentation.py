"""What the README and the pages of `docs/` show: snippets run, links lead somewhere."""

import re

import pytest

from benchmarks.command import REPOSITORY


PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
OTHERS = [
    *(REPOSITORY / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")),
    *(REPOSITORY / name / "README.md" for name in ("benchmarks", "parity_tests")),
]
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def with_snippets():
    return [page for page in PAGES if SNIPPET.search(page.read_text())]


def name(page):
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", with_snippets(), ids=name)
def test_the_snippets_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for code in SNIPPET.findall(page.read_text()):
        exec(compile(code, name(page), "exec"), names)


def headings(text):
    """Anchors as GitHub makes them of headings."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in re.sub(r"(?s)```.*?```", "", text).splitlines()
        if line.startswith("#")
    }


def broken(text, folder):
    """Links of a page that lead to no file, or to no heading of one."""
    found = []
    for link in LINK.findall(re.sub(r"(?s)```.*?```|`[^`]*`", "", text)):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        there = (folder / path).resolve() if path else None
        if there is not None and not there.exists():
            found.append(link)
        elif anchor:
            where = text if there is None else _page(there).read_text()
            found += [] if anchor in headings(where) else [link]
    return found


def _page(path):
    return path / "README.md" if path.is_dir() else path


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_links_lead_somewhere(page):
    assert broken(page.read_text(), page.parent) == []


def test_a_broken_link_is_seen():
    text = "# A b\n[x](#a-b) [y](#c) [z](nowhere.md) [w](README.md#use-it)"
    assert broken(text, REPOSITORY) == ["#c", "nowhere.md"]


def test_the_readme_is_short_and_leads_to_every_page():
    text = PAGES[0].read_text()
    assert text.count("\n") < 200
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(LINK.findall(text))
