"""A planted fault, and the place it goes to."""

import ast
import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """One planted fault.

    Its place is given by module and function, so that a file can move and be rewritten.

    Attributes:
        name: in tables.
        package: that it is in.
        place: "module:function": the module by the end of its path, as "fisher" or
            "loop/state", which one file of the package alone has; the function by its
            qualified name, nothing for what stands outside all.
        old: an expression or statement, found as a syntax tree, or else a piece of
            text; once in the function.
        new: its replacement.
        group: key of `mutation.check.CASES`, the problems on which it is looked for.
    """

    name: str
    package: str
    place: str
    old: str
    new: str
    group: str = "gaussian"

    def file(self, folder: Path) -> Path:
        """The fault's file below `folder`, in which the package lies.

        Raises:
            ValueError: there is none, or more than one.
        """
        module = self.place.partition(":")[0]
        paths = sorted((folder / self.package).rglob(f"{Path(module).name}.py"))
        paths = [path for path in paths if f"/{path}".endswith(f"/{module}.py")]
        if len(paths) != 1:
            raise ValueError(f"mutant {self.name!r}: expected one {module}.py: {paths}")
        return paths[0]

    def planted(self, text: str) -> str:
        """The file's text with the fault planted in it.

        Raises:
            ValueError: its place is not there, or is there more than once.
        """
        tree = ast.parse(text)
        within = _function(tree, self.place.partition(":")[2].split("."))
        spans = [span(text, node) for node in _equal_nodes(within, self.old)]
        if not spans:
            low, high = span(text, within) if within is not tree else (0, len(text))
            starts = [
                low + match.start()
                for match in re.finditer(re.escape(self.old), text[low:high])
            ]
            spans = [(start, start + len(self.old)) for start in starts]
        if len(spans) != 1:
            raise ValueError(
                f"mutant {self.name!r}: expected its place once in {self.place}, "
                f"got {len(spans)} times: {self.old!r}"
            )
        ((start, end),) = spans
        return f"{text[:start]}{self.new}{text[end:]}"


def _function(tree: ast.Module, names: list[str]) -> ast.AST:
    """The function or class of these nested names; the module if there are none."""
    within: Any = tree
    for name in filter(None, names):
        inner = [node for node in ast.walk(within) if getattr(node, "name", "") == name]
        if len(inner) != 1:
            raise ValueError(f"expected one {'.'.join(names)}, got {len(inner)}")
        (within,) = inner
    return within


def _equal_nodes(within: ast.AST, old: str) -> list[ast.AST]:
    """Expressions and statements in `within` whose syntax tree is that of `old`."""
    try:
        (pattern,) = ast.parse(textwrap.dedent(old).strip()).body
    except (SyntaxError, ValueError):
        return []
    if isinstance(pattern, ast.Expr):
        pattern = pattern.value
    like = ast.dump(pattern)
    same = [n for n in ast.walk(within) if type(n) is type(pattern)]
    return [node for node in same if ast.dump(node) == like]


def span(text: str, node: Any) -> tuple[int, int]:
    """First and last place of a syntax tree's text, decorators included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    before = 0 if first < node.lineno else node.col_offset
    lines = text.encode().splitlines(keepends=True)
    start = b"".join(lines[: first - 1]) + lines[first - 1][:before]
    end = b"".join(lines[: node.end_lineno - 1])
    end += lines[node.end_lineno - 1][: node.end_col_offset]
    return len(start.decode()), len(end.decode())


def torch(name: str, place: str, old: str, new: str) -> Mutant:
    """A fault in a file of `trpo_torch`."""
    return Mutant(f"torch: {name}", "trpo_torch", place, old, new)


def jax(name: str, place: str, old: str, new: str) -> Mutant:
    """A fault in a file of `trpo_jax`."""
    return Mutant(f"jax: {name}", "trpo_jax", place, old, new)


def shared(name: str, place: str, old: str, new: str) -> Mutant:
    """A fault in a file of `trpo`."""
    return Mutant(f"shared: {name}", "trpo", place, old, new)


def in_group(group: str, *mutants: Mutant) -> tuple[Mutant, ...]:
    """The mutants with `group`, whose cases they are looked for on, filled in."""
    return tuple(mutant._replace(group=group) for mutant in mutants)
