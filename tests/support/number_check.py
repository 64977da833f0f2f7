"""Finds the numbers of a page, and those that nobody can look up.

A number stands in a part that is written from files (`benchmarks.pages`), or a comment
follows, `<!-- from: FILE KEY; … -->`, with a key for each number before it
(`benchmarks.cited_numbers`), or it belongs to a phrase that is listed as no
measurement: a setting, a version, a year.
Code is left out: commands are tested elsewhere.
"""

import re
from collections.abc import Iterator, Mapping, Sequence


NUMBER = re.compile(r"(?<![\w/])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?![\d])")
COUNT = r"(?:two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen)"
PART = r"(?:third|quarter|fifth|tenth)"
WORDS = re.compile(
    rf"\b(?:{COUNT} times|twice|half|(?:a|one|{COUNT}) {PART}s?)\b", re.IGNORECASE
)
SOURCES = re.compile(r"<!-- from: (.*?) -->", re.DOTALL)
LEFT_OUT = (
    re.compile(r"<!-- ([\w-]+):begin -->.*?<!-- \1:end -->", re.DOTALL),
    re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE),
    re.compile(r"(?<=\n)\n(?: {4,}\S.*\n?)+"),
    re.compile(r"`[^`]*`"),
    re.compile(r"(?<=\])\([^)]*\)"),
)


def without_code(text: str) -> str:
    """The page's words alone, everything else as blanks, so that places stay."""
    for pattern in LEFT_OUT:
        text = pattern.sub(lambda m: re.sub(r"\S", " ", m[0]), text)
    return text


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Where paragraphs and rows of tables begin, and what they say."""
    for match in re.finditer(r"(?:^\|.*$)|(?:(?:^(?!\|).*\S.*(?:\n|\Z))+)", text, re.M):
        yield match.start(), match[0]


def numbers_of(block: str) -> list[re.Match[str]]:
    """The numbers of a block, words such as "twice" too, in order."""
    bare = SOURCES.sub(lambda m: " " * len(m[0]), block)
    bare = re.sub(r"(?m)^\s*\d\.(?=\s)", lambda m: " " * len(m[0]), bare)
    found = [*NUMBER.finditer(bare), *WORDS.finditer(bare)]
    return sorted(found, key=lambda match: match.start())


def same(shown: str, value: float) -> bool:
    """Whether a number is shown as it is, rounded to the digits that are shown."""
    shown = shown.replace("−", "-").replace(",", "")
    if "e" in shown:
        digits = len(shown.partition("e")[0].partition(".")[2])
        return float(f"{value:.{digits}e}") == float(shown)
    return f"{value:.{len(shown.partition('.')[2])}f}" == shown


def problems(
    text: str, known: Mapping[str, float], phrases: Sequence[str]
) -> list[str]:
    """What is wrong with a page's numbers.

    Args:
        text: The page.
        known: `benchmarks.cited_numbers.numbers()`.
        phrases: What is no measurement, each of one block, blanks as one.
    """
    wrong, unused = [], set(phrases)
    for _, block in blocks(without_code(text)):
        allowed = _spans(block, phrases, unused)
        pending: list[str] = []
        events = [*numbers_of(block), *SOURCES.finditer(block)]
        for match in sorted(events, key=lambda match: match.start()):
            if match.re is SOURCES:
                wrong += _against(pending, match[1], known)
                pending = []
            elif not any(a <= match.start() < b for a, b in allowed):
                pending.append(match[0])
        wrong += [f"{shown} without a source: {block[:70]!r}" for shown in pending]
    return wrong + [f"no longer said: {phrase!r}" for phrase in sorted(unused)]


def _against(shown: Sequence[str], sources: str, known: Mapping[str, float]) -> list:
    """What is wrong with the numbers that a comment is of."""
    keys = [" ".join(key.split()) for key in sources.split(";")]
    if len(keys) != len(shown):
        return [f"{len(keys)} sources for {list(shown)}: {sources!r}"]
    return [
        f"{number} is {known.get(key)}: {key}"
        for number, key in zip(shown, keys, strict=True)
        if key not in known or not same(number, known[key])
    ]


def _spans(
    block: str, phrases: Sequence[str], unused: set[str]
) -> list[tuple[int, int]]:
    """Where a block says one of the phrases."""
    found = []
    for phrase in phrases:
        pattern = r"(?<![\w.,-])" + r"\s+".join(map(re.escape, phrase.split()))
        for match in re.finditer(pattern + r"(?![\d]|[.,]\d)", block):
            found.append(match.span())
            unused.discard(phrase)
    return found
