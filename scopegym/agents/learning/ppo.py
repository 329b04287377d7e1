"""Proximal policy optimisation with masks, on fragments that hosts play independently."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from scopegym.agents.learning.host import Fragment
from scopegym.agents.learning.network import weights_of
from scopegym.agents.learning.vec_env import RayVecEnv


class FragmentPPO(MaskablePPO):
    """MaskablePPO with rollouts that the hosts of the environments play.

    A rollout consists of the first finished fragments, one per host on average. Log-probabilities
    belong to the weights that played a fragment, so a fragment one update late remains valid.
    """

    #: Operators executed so far; return and executions of the last rollout's episodes.
    executions = 0
    episodes: list[tuple[float, int]]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: Any,
        n_rollout_steps: int,
        use_masking: bool = True,
    ) -> bool:
        """Fill the buffer with fragments; the masks are always used."""
        del use_masking
        assert isinstance(env, RayVecEnv) and isinstance(rollout_buffer, MaskableDictRolloutBuffer)
        callback.on_rollout_start()
        fragments = env.fragments(weights_of(self.policy), n_rollout_steps)
        rollout_buffer.reset()
        for step in range(n_rollout_steps):
            rollout_buffer.add(
                {
                    key: _side_by_side([f.observations[key][step] for f in fragments])
                    for key in fragments[0].observations
                },
                _side_by_side([f.actions[step] for f in fragments])[:, None],
                _side_by_side([f.rewards[step] for f in fragments]),
                _side_by_side([f.starts[step] for f in fragments]),
                _tensor([f.values[step] for f in fragments]),
                _tensor([f.log_probabilities[step] for f in fragments]),
                action_masks=_side_by_side([f.masks[step] for f in fragments]),
            )
        rollout_buffer.compute_returns_and_advantage(
            last_values=_tensor([f.last_values for f in fragments]),
            dones=_side_by_side([f.last_starts for f in fragments]),
        )
        self._count(fragments, n_rollout_steps * env.num_envs)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return callback.on_step()

    def _count(self, fragments: list[Fragment], steps: int) -> None:
        self.num_timesteps += steps
        self.executions += sum(fragment.executions for fragment in fragments)
        self.episodes = [episode for fragment in fragments for episode in fragment.episodes]


def _side_by_side(parts: list[Any]) -> Any:
    return np.concatenate(parts)


def _tensor(parts: list[Any]) -> torch.Tensor:
    return torch.as_tensor(np.concatenate(parts), dtype=torch.float32)
