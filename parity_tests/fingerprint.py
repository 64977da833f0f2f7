"""Hashes that stay the same when code is only moved or renamed.

    python -m parity_tests.fingerprint                     # print it
    python -m parity_tests.fingerprint --out before.json   # keep it
    python -m parity_tests.fingerprint --like before.json  # status 1 if it is another

For JAX, of the compiled programs: the default update, `act`, and a chunk of compiled
training, as StableHLO text without names and locations. For PyTorch, of the bytes of
the whole training state after 20 updates of two environments, which are the same on one
machine with as many threads.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path


UPDATES = 20
TRAINED = ("Pendulum-v1", "CartPole-v1")
# Names of Python in StableHLO: attributes of arguments and results, and locations.
_NAMES = re.compile(
    r'jax\.(?:result_info|arg_info) = "[^"]*"(?:, )?|[ ]*loc\([^\n]*\)$', re.MULTILINE
)
_SYMBOL = re.compile(r"@[\w$.-]+|%\w+")


def without_names(text: str) -> str:
    """A StableHLO module's text with its symbols numbered as they appear."""
    numbers: dict[str, str] = {}

    def numbered(match: re.Match) -> str:
        return numbers.setdefault(match[0], f"{match[0][0]}{len(numbers)}")

    return _SYMBOL.sub(numbered, _NAMES.sub("", text).replace(" {}", ""))


def programs() -> Iterator[tuple[str, str]]:
    """Name and StableHLO text of each of JAX's programs."""
    import numpy as np

    from trpo.common.random_streams import minibatch_orders
    from trpo.config.presets import preset_config
    from trpo.data.batch import Batch
    from trpo_jax.agent import update as compiled
    from trpo_jax.agent.agent import TRPOAgent
    from trpo_jax.loop.program import run_chunk
    from trpo_jax.loop.trainer import CompiledTrainer

    agent = TRPOAgent(3, 1, -2.0, 2.0, "cpu", (64, 64), (64, 64))
    obs, column = np.zeros((256, 3), np.float32), np.zeros((256, 1), np.float32)
    batch = Batch(obs, column, column, column, column)
    orders = minibatch_orders(
        np.random.default_rng(0), epochs=agent.config.value_epochs, size=256
    )
    numbers = agent.backend.in_dtype_of(agent.config.step_numbers())
    static = (agent.backend.functions, agent.config.step_options())
    yield (
        "update",
        _text(compiled.update, *static, agent.backend.state, batch, orders, numbers),
    )
    static = (agent.backend.functions, agent.config.matmul_precision)
    networks = (agent.policy, agent.critic)
    yield "act", _text(compiled.act, *static, *networks, obs, column)
    config = preset_config("phys2d/Pendulum-v0", num_envs=8, rollout_steps=32)
    trainer = CompiledTrainer([config], longest_chunk=2, episodes=2)
    state = (trainer.program, trainer._members, trainer._state, trainer._numbers(2))
    yield "chunk", _text(run_chunk, *state, np.int32(2), np.bool_(True))


def _text(function, *arguments) -> str:
    return function.lower(*arguments).as_text()


def trained(env_id: str) -> bytes:
    """PyTorch's training state after `UPDATES` updates of the preset, seed 3."""
    import safetensors.numpy

    from trpo import Trainer, preset_config

    trainer = Trainer(preset_config(env_id, backend="torch", seed=3))
    try:
        trainer.run(num_updates=UPDATES)
        return safetensors.numpy.save(trainer.get_state())
    finally:
        trainer.close()


def fingerprint() -> dict[str, str]:
    """SHA-256 of each program, without names, and of each trained state."""
    texts = {f"jax {name}": without_names(text) for name, text in programs()}
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {f"torch {env_id}": trained(env_id) for env_id in TRAINED}
    return {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the fingerprint; 1 if it is not that of the file given."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.fingerprint")
    parser.add_argument("--out", type=Path, help="keep it in this file")
    parser.add_argument("--like", type=Path, help="compare it with this file")
    options = parser.parse_args(arguments)
    hashes = fingerprint()
    print(json.dumps(hashes, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(hashes, indent=1) + "\n")
    if options.like is None:
        return 0
    before = json.loads(options.like.read_text())
    changed = sorted(n for n in {*hashes, *before} if hashes.get(n) != before.get(n))
    for name in changed:
        print(f"{name}: expected {before.get(name)}, got {hashes.get(name)}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
