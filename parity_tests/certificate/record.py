"""The certificate's contents, and the devices that it covers."""

from typing import Any, NamedTuple


DEVICES = ("cpu", "cuda")
# TF32 is a GPU's; its rows have their own bounds.
TF32 = "cuda with TF32"


class Certificate(NamedTuple):
    """Everything that a report shows.

    Attributes:
        mode: "quick" or "full".
        passed: whether every ring that ran passed.
        seconds: wall-clock time.
        facts: versions, processor, precision, threads, commit.
        devices: device -> "passed", "failed" or "not run"; also GPU with TF32 on.
        rows: the rings' rows as dictionaries, each with its device.
        ties: device -> [ties, decisions].
        checks: outcomes of oracles, recorded vectors and failure parity.
        shadow: environment -> lock-step training: `updates` (one dictionary each),
            `worst` (ring -> its row nearest to the bound), `ties`, `passed`.
        closed_loop: how far two runs that share only their seed came apart.
        recorded_faults: outcome of the last run of the planted faults, which is not
            this one: `planted`, `caught`, `commits`, `processors`.
    """

    mode: str
    passed: bool
    seconds: float
    facts: dict[str, Any]
    devices: dict[str, str]
    rows: list[dict[str, Any]]
    ties: dict[str, list[int]]
    checks: list[dict[str, Any]]
    shadow: dict[str, dict[str, Any]]
    closed_loop: str
    recorded_faults: dict[str, Any]
