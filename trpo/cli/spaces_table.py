"""Spaces and policies of this TRPO beside those of other libraries' TRPO."""

from trpo.common.terminal import Terminal


LIBRARIES = ("trpo", "SB3-contrib", "Tianshou", "skrl", "OmniSafe", "garage")
VERSIONS = (
    "The TRPO of each library, by its source code: SB3-contrib 2.9.0a2, Tianshou "
    "2.0.1, skrl 2.0.0, OmniSafe 0.5.0, garage 2d59480 (2023). SB3-contrib has masks "
    'and memory for PPO only. "own": possible with a distribution, network or model '
    'that you write yourself; "?": not found.'
)
ROWS = (
    ("Box actions", "yes", "yes", "yes", "yes", "yes", "yes"),
    ("Discrete", "yes", "yes", "yes", "no", "no", "yes"),
    ("MultiDiscrete", "yes", "yes", "own", "no", "no", "no"),
    ("MultiBinary", "yes", "yes", "own", "no", "no", "no"),
    ("Dict and Tuple actions", "yes", "no", "own", "no", "no", "no"),
    ("action masks", "yes", "no", "?", "no", "no", "no"),
    ("log_std by observation", "yes", "gSDE", "yes", "own", "no", "yes"),
    ("tanh-squashed Gaussian", "yes", "with gSDE", "no", "no", "no", "?"),
    ("vector observations", "yes", "yes", "yes", "yes", "yes", "yes"),
    ("images", "CNN", "CNN", "own", "own", "no", "CNN"),
    ("Discrete observations", "one-hot", "one-hot", "?", "?", "no", "?"),
    ("Dict observations", "yes", "yes", "own", "yes", "no", "no"),
    ("Tuple observations", "yes", "no", "own", "?", "no", "no"),
    ("layer normalisation", "yes", "own", "own", "own", "no", "?"),
    ("encoder shared with the critic", "option", "default", "own", "no", "no", "no"),
    ("networks of your own", "yes", "yes", "yes", "yes", "no", "yes"),
    ("memory", "GRU, LSTM", "no", "?", "GRU, LSTM", "no", "TensorFlow"),
    ("PyTorch", "yes", "yes", "yes", "yes", "yes", "yes"),
    ("JAX", "yes", "no", "no", "no", "no", "no"),
)


def markdown() -> str:
    """The table for the README."""
    lines = [
        f"| | {' | '.join(LIBRARIES)} |",
        f"|{'---|' * (len(LIBRARIES) + 1)}",
        *(f"| {' | '.join(row)} |" for row in ROWS),
    ]
    return "\n".join([*lines, "", VERSIONS])


def show(terminal: Terminal) -> None:
    """Print the table."""
    terminal.table(("", *LIBRARIES), ROWS)
    terminal.say("")
    terminal.paragraph(VERSIONS)
