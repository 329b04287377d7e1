"""A learned policy: a folder of weights and a description, read without running code from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import le
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.agents.network import (
    CHANNELS,
    LAYERS,
    PATCHES,
    WIDTH,
    Network,
    log_probabilities,
)
from scopegym.artifacts import Array, digest
from scopegym.envs.episode import Episode, Rules
from scopegym.envs.observation import LIMIT, PICTURES, Observer
from scopegym.envs.problem import Problem, Task, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError, shown
from scopegym.operators.base import registry as operators
from scopegym.plain import (
    SHARE,
    Anything,
    Items,
    Number,
    Record,
    Text,
    Whole,
    checked,
    read_bytes,
    read_json,
)
from scopegym.rewards.base import Reward

#: Version of the bundle's layout.
BUNDLE = 2
SPEC, WEIGHTS = "spec.json", "policy.safetensors"
#: Largest bundle [bytes].
LARGEST, LARGEST_SPEC = 64 * 2**20, 4 * 2**20
#: Policies that come with the package, one folder per task.
SHIPPED = Path(__file__).parent / "policies"
#: Tolerance beyond a feature's range in training, as a share of the range.
SLACK = 0.25


@dataclass(frozen=True, eq=False)
class Policy:
    """Proposes a workflow for a problem, micro-step by micro-step.

    ``spec`` is the content of ``spec.json``: task, operators with versions and parameter values,
    reward, layout of the observation, training, validation, and the range of every feature over the
    training problems.
    """

    spec: Mapping[str, Any]
    weights: Mapping[str, Array]

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process derives the rest again from spec and weights.
        return Policy, (self.spec, self.weights)

    @cached_property
    def key(self) -> str:
        """Identity: its spec names the hash of the weights."""
        return digest(json.dumps(self.spec, sort_keys=True))

    @cached_property
    def task(self) -> Task:
        """The task it was trained for."""
        return tasks[self.spec["task"]]

    @cached_property
    def reward(self) -> Reward:
        """The reward it was trained on."""
        return Reward.from_dict(self.spec["reward"])

    @cached_property
    def rules(self) -> Rules:
        """Its grammar, horizon and parameter values."""
        names = [entry["name"] for entry in self.spec["operators"]]
        return Rules(self.task.grammar.only(names), self.spec["horizon"], self.spec["bins"])

    @cached_property
    def observer(self) -> Observer:
        """Converts an episode to an observation."""
        return Observer(self.rules, self.reward)

    @cached_property
    def network(self) -> Network:
        """The network that chooses the actions."""
        return Network(self.weights)

    def probabilities(self, episode: Episode) -> Array:
        """The probability of every action in this state, ``[actions]``; 0 for illegal actions."""
        seen = {
            "thumbnails": self.observer.thumbnails(episode)[None],
            "features": self.observer.features(episode)[None],
        }
        logits, _ = self.network(seen)
        chances: Array = np.exp(log_probabilities(logits, episode.mask[None])[0])
        return chances

    def play(
        self, problem: Problem, rng: np.random.Generator | None = None, horizon: int | None = None
    ) -> Episode:
        """One whole episode with the most likely actions, or with ``rng`` with random draws.

        ``horizon`` can allow fewer operator executions than in training.
        """
        rules = self.rules if horizon is None else self.rules.within(horizon)
        episode = Episode.start(problem, rules)
        while not episode.ended:
            chances = self.probabilities(episode)
            action = int(np.argmax(chances)) if rng is None else _draw(chances, rng)
            episode = episode.play(action)
        return episode

    def propose(self, problem: Problem, most: int | None = None) -> Trial:
        """The workflow of one episode, with at most this many operator executions if given, and at
        least as many as there are mandatory slots."""
        least = max(1, len(self.rules.grammar.missing(0)))
        return self.play(problem, horizon=None if most is None else max(most, least)).trial

    def out_of_domain_features(self, problem: Problem) -> list[str]:
        """The features of a problem outside the range in training, the farthest first."""
        seen = self.observer.features(Episode.start(problem, self.rules))[self.observer.of_problem]
        low, high = (np.array(self.spec["domain"][end]) for end in ("low", "high"))
        beyond = np.maximum(low - seen, seen - high) / np.maximum(high - low, 1e-3)
        far = [i for i in np.argsort(-beyond) if beyond[i] > SLACK]
        return [self.observer.names[i] for i in far]

    @classmethod
    def shipped(cls, task: str) -> Policy:
        """The policy shipped with the package. Raises ScopegymError when a task has none."""
        if not (SHIPPED / task / SPEC).is_file():
            have = ", ".join(sorted(folder.parent.name for folder in SHIPPED.glob(f"*/{SPEC}")))
            raise ScopegymError(
                f"No policy for task {task} comes with scopegym (there is one for {have}); train "
                f"one: scopegym train {task} --out POLICY."
            )
        return cls.load(SHIPPED / task)

    @classmethod
    def load(cls, folder: str | Path) -> Policy:
        """Read a bundle without running code from it.

        Raises ScopegymError when it is missing or damaged, or when its operators, reward or
        observation differ from this version; the message names the difference.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ScopegymError(f"There is no policy folder '{folder}'.")
        spec = _read_spec(folder)
        policy = cls(spec, _read_weights(folder, spec))
        policy._check_fit(folder)
        return policy

    def save(self, folder: Path) -> None:
        """Write the bundle into an existing folder, with the hash of the weights in its spec."""
        from safetensors.numpy import save

        content = save({name: np.ascontiguousarray(w) for name, w in self.weights.items()})
        (folder / WEIGHTS).write_bytes(content)
        spec = {**self.spec, "sha256": hashlib.sha256(content).hexdigest()}
        (folder / SPEC).write_text(
            json.dumps(spec, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )

    def _check_fit(self, folder: Path) -> None:
        """Raise ScopegymError when task, reward, operators, spaces or weights differ from those
        in training."""
        tasks[self.spec["task"]]
        names = [entry["name"] for entry in self.spec["operators"]]
        if len(set(names)) < len(names):
            raise ScopegymError(f"The policy '{folder}' names an operator twice.")
        for entry in self.spec["operators"]:
            operator = operators[entry["name"]]
            if operator.version != entry["version"]:
                raise ScopegymError(
                    f"The policy '{folder}' was trained with {operator.name} version "
                    f"{entry['version']}; this is version {operator.version}. Train it again."
                )
        described = describe(self.rules)
        for entry, now in zip(self.spec["operators"], described, strict=True):
            if entry["values"] != now["values"]:
                raise ScopegymError(
                    f"The policy '{folder}' was trained with other parameter values of "
                    f"{entry['name']}: {entry['values']}, where this version has "
                    f"{now['values']}. Train it again."
                )
        if self.spec["slots"] != outline(self.rules):
            raise ScopegymError(
                f"The policy '{folder}' was trained with other slots of task {self.task.name}. "
                "Train it again."
            )
        names = list(self.observer.names)
        if self.spec["features"] != names:
            odd = sorted(set(names) ^ set(self.spec["features"])) or ["another order"]
            raise ScopegymError(
                f"The policy '{folder}' was trained on other features ({', '.join(odd[:3])}). "
                "Train it again."
            )
        self._check_domain(folder)
        shapes = _shapes(len(names), self.rules.actions.size)
        odd = sorted({*self.weights} - {*shapes})
        if odd:
            raise ScopegymError(f"The policy '{folder}' has weights of no layer: {shown(odd[0])}.")
        for name, shape in shapes.items():
            weight = self.weights.get(name)
            if weight is None or weight.shape[:1] != shape[:1] or weight.size != np.prod(shape):
                raise ScopegymError(f"The policy '{folder}' has no weights {name} of {shape}.")
            if weight.dtype != np.float32:
                raise ScopegymError(
                    f"The weights {name} of the policy '{folder}' must be float32, not "
                    f"{weight.dtype}."
                )
            if not np.isfinite(weight).all():
                raise ScopegymError(f"The weights {name} of the policy '{folder}' are not finite.")

    def _check_domain(self, folder: Path) -> None:
        """Raise ScopegymError when the ranges of features in training are invalid."""
        low, high = self.spec["domain"]["low"], self.spec["domain"]["high"]
        count = self.observer.of_problem.stop
        if not (len(low) == len(high) == count and all(map(le, low, high))):
            raise ScopegymError(
                f"The domain of the policy '{folder}' must be {count} rising ranges of features; "
                "without it the policy cannot detect images that it does not fit."
            )


def outline(rules: Rules) -> list[dict[str, Any]]:
    """The slots of an episode's workflows, as plain values."""
    return [
        {"name": slot.name, "operators": list(slot.operators), "optional": slot.optional}
        for slot in rules.grammar.slots
    ]


def describe(rules: Rules) -> list[dict[str, Any]]:
    """The operators of an episode with versions and parameter values, as plain values."""
    return [
        {
            "name": name,
            "version": operators[name].version,
            "values": [list(values) for values in grid],
        }
        for name, grid in rules.actions.grids.items()
    ]


def _draw(chances: Array, rng: np.random.Generator) -> int:
    """An action drawn by these probabilities."""
    return int(np.searchsorted(np.cumsum(chances), rng.random() * chances.sum(), side="right"))


_RANGE = Items(Number(-LIMIT, LIMIT), 1, 1000)
_OPERATOR = Record(
    {
        "name": Text(),
        "version": Whole(1, 10**6),
        "values": Items(Items(Anything(), 1, 1000), 0, 100),
    }
)
#: Required entries of a spec. The verdict on new images needs ``domain`` and ``validation``.
ENTRIES = Record(
    {
        "task": Text(),
        "operators": Items(_OPERATOR, 1, 1000),
        "slots": Items(Record({}), 1, 1000),
        "bins": Whole(2, 100),
        "horizon": Whole(1, 100),
        "features": Items(Text(), 1, 10_000),
        "reward": Record({}),
        "domain": Record({"low": _RANGE, "high": _RANGE}),
        "validation": Record(
            {"images": Whole(1, 10**9), "score": SHARE, "low_score": SHARE},
            {"truth": SHARE, "executions": Number(0, 1e6)},
        ),
        "sha256": Text(64),
    }
)


def _read_spec(folder: Path) -> dict[str, Any]:
    try:
        spec = read_json(_read(folder, SPEC, LARGEST_SPEC))
    except ScopegymError:
        raise
    except ValueError as error:
        raise ScopegymError(f"'{folder / SPEC}' is not JSON: {error}.") from None
    if not isinstance(spec, dict) or spec.get("policy") != BUNDLE:
        layout = spec.get("policy") if isinstance(spec, dict) else None
        raise ScopegymError(
            f"The policy '{folder}' has layout {shown(layout)}; this version reads {BUNDLE}."
        )
    checked(ENTRIES, spec, f"The policy '{folder}'")
    return spec


def _read_weights(folder: Path, spec: Mapping[str, Any]) -> dict[str, Array]:
    from safetensors.numpy import load

    content = _read(folder, WEIGHTS, LARGEST)
    if hashlib.sha256(content).hexdigest() != spec["sha256"]:
        raise ScopegymError(
            f"'{folder / WEIGHTS}' is not the file saved with the policy (its hash "
            "differs): it is damaged or was replaced."
        )
    try:
        return load(content)
    except Exception as error:  # NumPy lacks some types of the format
        raise ScopegymError(f"'{folder / WEIGHTS}' holds no safetensors: {error}.") from None


def _read(folder: Path, name: str, most: int) -> bytes:
    if not (folder / name).exists():
        raise ScopegymError(f"The policy '{folder}' lacks {name}.")
    return read_bytes(folder / name, most, "The policy's file")


def _shapes(features: int, actions: int) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of the network, inputs flattened."""
    inputs = (len(PICTURES), *CHANNELS[:-1])
    seen = CHANNELS[-1] + WIDTH
    widths = [(i * side * side, o) for i, o, side in zip(inputs, CHANNELS, PATCHES, strict=True)]
    widths.append((features, WIDTH))
    widths += [(seen, WIDTH), (WIDTH, WIDTH), (WIDTH, actions)]
    widths += [(seen, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (width_in, width_out) in zip(LAYERS, widths, strict=True):
        shapes[f"{layer}.weight"] = (width_out, width_in)
        shapes[f"{layer}.bias"] = (width_out,)
    return shapes
