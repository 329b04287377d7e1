"""The policy's network in PyTorch, with the layers of ``agents.network``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from scopegym.agents.network import CHANNELS, LAYERS, PATCHES, WIDTH
from scopegym.artifacts import Array


class Extractor(BaseFeaturesExtractor):
    """Convolutions over disjoint patches, down to one vector, beside one layer over the features.

    Disjoint patches cost a tenth of overlapping ones. The exact position of a column in the lattice
    carries no information here.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, CHANNELS[-1] + WIDTH)
        pictures, figures = (observation_space[key].shape for key in ("thumbnails", "features"))
        assert pictures is not None and figures is not None
        inputs = (pictures[0], *CHANNELS[:-1])
        self.patches = nn.ModuleList(
            nn.Conv2d(i, o, side, side)
            for i, o, side in zip(inputs, CHANNELS, PATCHES, strict=True)
        )
        self.figures = nn.Linear(figures[0], WIDTH)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """``[B, 192]``; stable-baselines3 has scaled the pictures to 0..1."""
        seen = observations["thumbnails"]
        for patch in self.patches:
            seen = torch.relu(patch(seen))
        figures = torch.relu(self.figures(observations["features"]))
        return torch.cat([seen.flatten(1), figures], dim=1)


#: Arguments of stable-baselines3's policy for the network of ``agents.network``.
POLICY_ARGUMENTS: dict[str, Any] = {
    "features_extractor_class": Extractor,
    "net_arch": {"pi": [WIDTH, WIDTH], "vf": [WIDTH, WIDTH]},
    "activation_fn": nn.Tanh,
}


def weights_of(policy: nn.Module) -> dict[str, Array]:
    """The weights of stable-baselines3's policy under the names of ``agents.network``."""
    modules = policy.get_submodule
    patches = modules("features_extractor.patches")
    layers = [
        *patches.children(),
        modules("features_extractor.figures"),
        *(modules(f"mlp_extractor.policy_net.{i}") for i in (0, 2)),
        modules("action_net"),
        *(modules(f"mlp_extractor.value_net.{i}") for i in (0, 2)),
        modules("value_net"),
    ]
    return {
        f"{name}.{part}": getattr(layer, part).detach().cpu().numpy().astype(np.float32)
        for name, layer in zip(LAYERS, layers, strict=True)
        for part in ("weight", "bias")
    }
