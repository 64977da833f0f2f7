"""The half of a recurrent agent that knows no framework."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from trpo.agent.base import AgentBase, exclusive
from trpo.agent.batch_checks import (
    check_memory,
    flag_array,
    real_array,
    require_shape,
    sequence_fields,
)
from trpo.data.batch import Batch, SequenceBatch, Sequences
from trpo.data.hidden_state import Memory
from trpo.spaces.architecture import CELLS, GRU, NONE


class RecurrentAgentBase(AgentBase):
    """A TRPO agent whose policy and critic remember, each with a cell of its own.

    Observation -> cell -> hidden tanh layers -> output, as in sb3-contrib's
    RecurrentPPO. The agent keeps no hidden state: `act` takes and returns them, so that
    one agent may play in any number of environments at once.

    `update` takes whole sequences, the fields of `trpo.data.batch.SequenceBatch`,
    arrays [T, B, …]. Gradients reach back to the first step, whose hidden states are
    taken as they are, or to an episode's start. Minibatches of the critic are of whole
    environments.

    Args:
        args: As `AgentBase`'s.
        recurrent: "gru" (Cho et al. 2014, "Learning Phrase Representations using RNN
            Encoder-Decoder", with the reset gate after the product, as in
            `torch.nn.GRUCell`) or "lstm" (Hochreiter and Schmidhuber 1997; Gers et al.
            2000).
        recurrent_size: Units of each cell.
        options: As `AgentBase`'s.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    defaults: ClassVar[dict[str, Any]] = {"recurrent": GRU}

    @property
    def memory_size(self) -> int:
        """Entries of an environment's hidden state, in policy and critic each."""
        return CELLS[self.config.recurrent].states * self.config.recurrent_size

    def initial_memory(self, num_envs: int) -> Memory:
        """Hidden states at the beginning of episodes: zeros, as NumPy arrays."""
        shape = (num_envs, self.memory_size)
        return Memory(*(np.zeros(shape, self.dtype) for _ in Memory._fields))

    @exclusive
    def act(
        self,
        obs: Any,
        deterministic: bool = False,
        action_mask: Any = None,
        memory: Memory | None = None,
    ) -> tuple[Any, Any, Any, Memory]:
        """Sample actions, or take the most likely ones.

        Args:
            obs: [B, obs_dim] observations, NumPy's or the framework's.
            deterministic: Take the policy's mode instead of sampling.
            action_mask: As in `AgentBase.act`.
            memory: Hidden states that the last call returned, with zeros where an
                episode begins (`Memory.forget`); None where all do.

        Returns:
            Action [B, act_dim], its log-probability [B, 1] in nats, the critic's value
            [B, 1] and the new hidden states, in the kind of array that `obs` is.

        Raises:
            ValueError: an argument has another shape, or a mask forbids all.
        """
        native = self.backend.is_native(obs)
        obs = self._prepare_obs(obs)
        mask = self._prepare_mask(action_mask, obs.shape[0])
        memory = self._prepare_memory("memory", memory, obs.shape[0])
        noise = None if deterministic else self.draw_noise(obs.shape[0])
        action, log_prob, value, after = self.backend.forward(obs, noise, mask, memory)
        if native:
            return action, log_prob, value, after
        answer = map(self.backend.to_numpy, (action, log_prob, value, *after))
        action, log_prob, value, *states = answer
        return action, log_prob, value, Memory(*states)

    def policy_function(self) -> Any:
        """Not of an agent with a memory.

        Raises:
            ValueError: always.
        """
        raise self._has_memory("policy_function")

    def sample_actions(self, *_: Any, **__: Any) -> np.ndarray:
        """Likewise."""
        raise self._has_memory("sample_actions")

    def evaluate_actions(self, *_: Any, **__: Any) -> tuple[np.ndarray, np.ndarray]:
        """Likewise."""
        raise self._has_memory("evaluate_actions")

    def _has_memory(self, name: str) -> ValueError:
        return ValueError(
            f"`{name}`: expected an agent without a memory, got a "
            f"{type(self).__name__}. Its `act` takes and returns hidden states."
        )

    def _act_on(
        self, obs: np.ndarray, state: Any, starts: Any, deterministic: bool
    ) -> tuple[np.ndarray, Any]:
        if state is not None and starts is not None:
            state = Memory(*state).forget(
                flag_array("episode_start", starts, (len(obs),))
            )
        action, _, _, state = self.act(obs, deterministic, memory=state)
        return action, state

    @exclusive
    def value(self, obs: Any, memory: Memory | None = None) -> Any:
        """The critic's value [B, 1] of `obs` [B, obs_dim], in the kind of `obs`.

        Args:
            obs: Observations.
            memory: Hidden states before they are seen; zeros if None.
        """
        native = self.backend.is_native(obs)
        obs = self._prepare_obs(obs)
        memory = self._prepare_memory("memory", memory, obs.shape[0])
        value = self.backend.value(obs, memory)
        return value if native else self.backend.to_numpy(value)

    def _prepare_memory(self, name: str, memory: Any, rows: int) -> Memory:
        """Checked hidden states [rows, states] as the framework's arrays."""
        if memory is None:
            memory = self.initial_memory(rows)
        memory = check_memory(name, memory, rows, self.memory_size)
        return Memory(
            *(self.backend.to_native(self._in_dtype(name, array)) for array in memory)
        )

    def _in_dtype(self, name: str, array: Any) -> Any:
        native = self._is_native(name, array)
        return array if native else np.asarray(array, self.dtype)

    def _check_batch(self, batch: Mapping[str, Any] | SequenceBatch) -> Batch:
        """The batch as native arrays; its `obs` are `trpo.data.batch.Sequences`."""
        fields = sequence_fields(batch)
        obs = fields.obs
        if not self._is_native("batch['obs']", obs):
            obs = real_array("batch['obs']", obs)
        require_shape("batch['obs']", obs, (None, None, self.obs_dim))
        shape = (obs.shape[0], obs.shape[1])
        flat = {"obs": obs.reshape(-1, self.obs_dim)}
        for name in ("actions", "log_probs", "returns", "advantages", "action_mask"):
            if (array := getattr(fields, name)) is not None:
                flat[name] = self._flattened(f"batch['{name}']", array, shape)
        starts = self._on_host("batch['starts']", fields.starts)
        starts = flag_array("batch['starts']", starts, shape)
        valid = np.ones(shape, dtype=bool)
        if fields.valid is not None:
            valid = self._on_host("batch['valid']", fields.valid)
            valid = flag_array("batch['valid']", valid, shape)
        if not valid.any():
            raise ValueError(
                "`batch['valid']`: expected at least one sample, got none."
            )
        memory = self._prepare_memory("batch['memory']", fields.memory, shape[1])
        checked = super()._check_batch(flat)
        chosen = None
        if not valid.all():
            chosen = self.backend.to_indices(np.flatnonzero(valid).astype(np.int32))
        sequences = Sequences(
            checked.obs.reshape(*shape, self.obs_dim),
            self.backend.to_native(starts[..., None].astype(self.dtype)),
            self.backend.to_native(valid[..., None].astype(self.dtype)),
            chosen,
            memory,
        )
        returns = checked.returns.reshape(*shape, 1)
        if chosen is not None:
            checked = Batch(*(None if a is None else a[chosen] for a in checked))
        return checked._replace(obs=sequences, returns=returns)

    def _flattened(self, name: str, array: Any, shape: tuple[int, int]) -> Any:
        """An array [T, B, …] as [T * B, …]."""
        array = array if self._is_native(name, array) else real_array(name, array)
        if tuple(array.shape[:2]) != shape:
            raise ValueError(
                f"`{name}`: expected shape [{shape[0]}, {shape[1]}, …], got "
                f"{list(array.shape)}."
            )
        return array.reshape(shape[0] * shape[1], *array.shape[2:])

    def _shuffled(self, batch: Batch) -> int:
        """Minibatches of the critic are drawn from the environments."""
        return batch.obs.obs.shape[1]

    def _require_kind(self) -> None:
        if self.config.recurrent == NONE:
            raise ValueError(
                f"`recurrent`: expected {' or '.join(map(repr, CELLS))} for "
                f"{type(self).__name__}, got {NONE!r}. TRPOAgent has no memory."
            )
