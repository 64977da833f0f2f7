"""Lines of code of the product: without blank lines, comments and docstrings.

`python -m tests.project.code_lines [FOLDER ...]` prints them by package and folder.
Lines are those that `ruff format` makes at the configured length of 88.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("trpo", "trpo_torch", "trpo_jax")
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(text: str) -> int:
    """Lines of a module that have code: a string that stands alone is none."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(ast.Constant(str())):
                lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)


def by_folder(package: str) -> Counter[str]:
    """Code lines of each folder of a package; those of its flat files under "."."""
    counts: Counter[str] = Counter()
    for path in sorted((ROOT / package).rglob("*.py")):
        folder, *rest = path.relative_to(ROOT / package).parts
        counts[folder if rest else "."] += code_lines(path.read_text())
    return counts


def table(packages: Sequence[str]) -> str:
    """Each package and its folders, and the sum."""
    counts = {package: by_folder(package) for package in packages}
    lines = []
    for package, of_folders in counts.items():
        lines.append(f"{package:16}{of_folders.total():7,}")
        lines += [f"  {name:14}{n:7,}" for name, n in of_folders.most_common()]
    total = sum(of_folders.total() for of_folders in counts.values())
    return "\n".join([*lines, f"{'in all':16}{total:7,}"])


if __name__ == "__main__":
    print(table(sys.argv[1:] or PRODUCT))  # noqa: T201
