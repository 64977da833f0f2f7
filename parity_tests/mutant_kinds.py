"""What a planted fault is."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One planted fault, looked for on a group of `mutant_check.CASES`.

    A file, a piece of its text that occurs once, and what to put there.
    """

    name: str
    file: str
    old: str
    new: str
    group: str = "gaussian"


def torch(name: str, module: str, old: str, new: str) -> Mutant:
    """A fault in a file of `trpo_torch`."""
    return Mutant(f"torch: {name}", f"trpo_torch/{module}.py", old, new)


def jax(name: str, module: str, old: str, new: str) -> Mutant:
    """A fault in a file of `trpo_jax`."""
    return Mutant(f"jax: {name}", f"trpo_jax/{module}.py", old, new)


def shared(name: str, module: str, old: str, new: str) -> Mutant:
    """A fault in a file of `trpo`."""
    return Mutant(f"shared: {name}", f"trpo/{module}.py", old, new)


def looked_for(group: str, *mutants: Mutant) -> tuple[Mutant, ...]:
    """The faults, to be looked for on the cases of `group`."""
    return tuple(mutant._replace(group=group) for mutant in mutants)
