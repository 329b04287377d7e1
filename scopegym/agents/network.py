"""The policy's network in NumPy, so that inference needs no deep-learning library.

The same network is trained in PyTorch (``agents.learning.network``); a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scopegym.artifacts import Array

#: Side of the patches of each layer: 48 = 4 * 3 * 4.
PATCHES = (4, 3, 4)
#: Channels after each of these layers.
CHANNELS = (16, 32, 64)
#: Width of the first layer over the features, and of the two hidden layers of policy and value.
WIDTH = 128

#: Names of the weights: patches, features, hidden and last layers of policy and value.
LAYERS = (
    *(f"patch{i}" for i in range(len(PATCHES))),
    "figures",
    *(f"{head}{i}" for head in ("policy", "value") for i in range(3)),
)


@dataclass(frozen=True, eq=False)
class Network:
    """Weights by ``layer.weight`` and ``layer.bias``, float32."""

    weights: Mapping[str, Array]

    def __call__(self, observations: Mapping[str, Array]) -> tuple[Array, Array]:
        """Logits ``[B, actions]`` and values ``[B]`` of a batch of observations."""
        seen = self._extract(observations)
        return self._head("policy", seen), self._head("value", seen)[:, 0]

    def _extract(self, observations: Mapping[str, Array]) -> Array:
        seen = observations["thumbnails"].astype(np.float32) / np.float32(255)
        for layer, side in enumerate(PATCHES):
            seen = np.maximum(self._linear(f"patch{layer}", _cut(seen, side)), 0)
            seen = np.moveaxis(seen, -1, 1)
        figures = np.maximum(self._linear("figures", observations["features"]), 0)
        return np.concatenate([seen.reshape(len(seen), -1), figures], axis=1)

    def _head(self, head: str, seen: Array) -> Array:
        for layer in range(2):
            seen = np.tanh(self._linear(f"{head}{layer}", seen))
        return self._linear(f"{head}2", seen)

    def _linear(self, layer: str, values: Array) -> Array:
        weight = self.weights[f"{layer}.weight"]
        result: Array = values @ weight.reshape(len(weight), -1).T + self.weights[f"{layer}.bias"]
        return result


def _cut(pictures: Array, side: int) -> Array:
    """Pictures ``[B, C, H, W]`` as square patches ``[B, H / side, W / side, C * side * side]``."""
    batch, channels, height, width = pictures.shape
    patches = pictures.reshape(batch, channels, height // side, side, width // side, side)
    return patches.transpose(0, 2, 4, 1, 3, 5).reshape(
        batch, height // side, width // side, channels * side * side
    )


def log_probabilities(logits: Array, masks: Array) -> Array:
    """Log-probabilities ``[B, actions]`` without illegal actions."""
    masked = np.where(masks, logits, -np.inf)
    shifted = masked - masked.max(axis=1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
