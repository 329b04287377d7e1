"""The observation of an episode: small pictures, and features independent of the magnification.

Lengths are divided by the prior's spacing and counts by the expected count. A policy trained at one
magnification therefore works at another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scopegym.answers import described
from scopegym.answers.base import SIDE, View, decades, expected_count
from scopegym.artifacts import Array, Artifact, Image
from scopegym.envs.episode import Episode, Rules
from scopegym.operators.base import registry as operators
from scopegym.operators.filters import smooth
from scopegym.operators.peaks import correlate_column
from scopegym.prior import Prior
from scopegym.rewards.base import Reward

#: Side of the close-up [spacings]: each spacing then takes 8 px of the thumbnail.
CLOSE_UP = 6.0
#: Features are clipped here, so that an unusual image cannot dominate the others.
LIMIT = 5.0

#: Pictures in a thumbnail stack, in order.
PICTURES = ("input", "input close", "image close", "result", "result close")
#: Ranks, relative to the expected count, at which heights of the image's peaks are sampled.
RANKS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
#: Column widths of these peaks [spacings].
WIDTHS = (0.15, 0.22)
#: Width of the column in the matched filter [spacings].
COLUMN = 0.22
#: Sides of the blocks for averages of the image [spacings].
BLOCKS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
#: Approximate number of pixels for percentiles and statistics of an image.
PIXELS = 2**14


@dataclass(frozen=True)
class Observer:
    """Converts an episode to arrays; rules and reward determine the layout."""

    rules: Rules
    reward: Reward

    @cached_property
    def kinds(self) -> tuple[type[Artifact], ...]:
        """The output kinds of the operators except images, in the operators' order."""
        made = (operators[name].output for name in self.rules.actions.operators)
        return tuple(kind for kind in dict.fromkeys(made) if kind is not Image)

    @cached_property
    def slots(self) -> dict[tuple[str, int], int]:
        """A number for every parameter of every operator."""
        grids = self.rules.actions.grids
        pairs = [(op, i) for op, grid in grids.items() for i in range(len(grid))]
        return {pair: number for number, pair in enumerate(pairs)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each feature."""
        actions, terms = self.rules.actions, self.reward.weights
        return (
            *(f"prior {name}" for name in PRIOR_NAMES),
            *(f"input {name}" for name in IMAGE_NAMES),
            *(f"image {name}" for name in IMAGE_NAMES),
            *(
                f"{kind.__name__.casefold()} {name}"
                for kind in self.kinds
                for name in ("there", *described(kind).statistic_names)
            ),
            "score",
            *terms,
            "left",
            *(f"times {op}" for op in actions.operators),
            *(f"last {op}" for op in actions.operators),
            *(f"last value {i}" for i in range(actions.longest - 1)),
            *(f"choosing {op}.{i}" for op, i in self.slots),
            *(f"chosen {i}" for i in range(actions.longest - 1)),
        )

    @property
    def of_problem(self) -> slice:
        """The features of the problem, which do not change during an episode."""
        return slice(0, len(PRIOR_NAMES) + len(IMAGE_NAMES))

    def thumbnails(self, episode: Episode) -> Array:
        """uint8 ``[5, SIDE, SIDE]``: see ``PICTURES``."""
        state = episode.state
        result = next((a for kind in self.kinds if (a := state.get(kind)) is not None), None)
        views = ((state.source, 1), (state.source, 0), (state.image, 0), (result, 1), (result, 0))
        return np.stack([self._picture(episode, artifact, bool(far)) for artifact, far in views])

    def features(self, episode: Episode) -> Array:
        """float32 ``[len(names)]``, each within ±LIMIT."""
        state, prior = episode.state, episode.problem.prior
        parts: list[Any] = [
            prior_statistics(prior, state.source.shape),
            self._statistics(episode, state.source),
            self._statistics(episode, state.image),
        ]
        for kind in self.kinds:
            artifact = state.get(kind)
            if artifact is None:
                parts.append(np.zeros(1 + len(described(kind).statistic_names)))
            else:
                parts += [(1.0,), self._statistics(episode, artifact)]
        goodness = self.reward.goodnesses(episode.score.terms)
        parts += [(episode.score.value, *goodness.values()), self._history(episode)]
        together = np.clip(np.concatenate(parts), -LIMIT, LIMIT)
        return together.astype(np.float32)

    def _history(self, episode: Episode) -> Array:
        actions, horizon = self.rules.actions, self.rules.horizon
        history = np.zeros(
            1 + 2 * len(actions.operators) + 2 * (actions.longest - 1) + len(self.slots)
        )
        write = iter(np.split(history, self._history_ends))
        left, times, last, values, choosing, chosen = write
        left[0] = 1 - episode.executions / horizon
        for step in episode.steps:
            times[actions.operators.index(step.op)] += 0.5
        if episode.steps:
            step = episode.steps[-1]
            last[actions.operators.index(step.op)] = 1
            values[: len(step.params)] = _in_units(step.op, tuple(step.params.values()))
        if episode.draft is not None:
            draft = episode.draft
            choosing[self.slots[draft.op, len(draft.values)]] = 1
            chosen[: len(draft.values)] = _in_units(draft.op, draft.values)
        return history

    @cached_property
    def _history_ends(self) -> Array:
        n, longest = len(self.rules.actions.operators), self.rules.actions.longest - 1
        return np.cumsum([1, n, n, longest, len(self.slots)])

    def _statistics(self, episode: Episode, artifact: Artifact) -> Array:
        prior = episode.problem.prior
        return episode.problem.cache.get(
            ("statistics", artifact.key, prior.key), lambda: statistics(artifact, prior)
        )

    def _picture(self, episode: Episode, artifact: Artifact | None, far: bool) -> Array:
        if artifact is None:
            return np.zeros((SIDE, SIDE), np.uint8)
        scale, shape = episode.problem.prior.scale_px, episode.state.source.shape
        view = whole(shape) if far else close_up(shape, scale)
        return episode.problem.cache.get(
            ("thumbnail", artifact.key, view), lambda: picture(artifact, view)
        )


def _in_units(op: str, values: tuple[Any, ...]) -> list[float]:
    spaces = (parameter.space for parameter in operators[op].parameters.values())
    return [space.to_unit(value) for space, value in zip(spaces, values, strict=False)]


# Features of a problem ----------------------------------------------------------------------------

PRIOR_NAMES = (
    "log scale",
    "log field",
    "density",
    "least sum",
    "largest sum",
    "counted",
    "lattice",
)


def prior_statistics(prior: Prior, shape: tuple[int, int]) -> Array:
    """The prior as numbers ``[7]``: see ``PRIOR_NAMES``."""
    sums = prior.neighbour_sums_px or (4 * prior.scale_px,)
    area = shape[0] * shape[1]
    return np.array(
        [
            np.log2(prior.scale_px / 16),
            np.log2(np.sqrt(area) / prior.scale_px / 16),
            0.0 if prior.count is None else prior.count * prior.scale_px**2 / area - 1,
            min(sums) / (4 * prior.scale_px) - 1,
            max(sums) / (4 * prior.scale_px) - 1,
            prior.count is not None,
            prior.lattice_px is not None,
        ]
    )


IMAGE_NAMES = (
    "mean",
    "contrast",
    "skewness",
    "dark end",
    "dark quarter",
    "middle",
    "bright quarter",
    "bright end",
    "pixel noise",
    *(f"contrast of {block:g} spacings" for block in BLOCKS),
    *(f"peaks {width:g} at {rank:g}" for width in WIDTHS for rank in RANKS),
    *(f"matches at {rank:g}" for rank in RANKS),
)


def statistics(artifact: Artifact, prior: Prior) -> Array:
    """An artifact as a fixed number of figures that do not depend on the magnification."""
    if isinstance(artifact, Image):
        return image_statistics(artifact, prior)
    return described(artifact).statistics(artifact, prior)


def image_statistics(image: Image, prior: Prior) -> Array:
    """An image as figures: see ``IMAGE_NAMES``."""
    pixels = image.pixels
    stride = max(1, int(np.sqrt(pixels.size / PIXELS)))
    sample = pixels[::stride, ::stride].astype(np.float64).ravel()
    mean, contrast = float(sample.mean()), float(sample.std()) + 1e-9
    away = (sample - mean) / contrast
    ends = np.percentile(sample, (1, 25, 50, 75, 99))
    return np.concatenate(
        [
            (mean, np.log10(contrast) + 0.5, float((away * away * away).mean()) / 2),
            ends,
            decades([_pixel_noise(pixels) / contrast]),
            [_block_contrast(pixels, block * prior.scale_px) / contrast for block in BLOCKS],
            *(decades(_profile(_laplacian(pixels, w * prior.scale_px), prior)) for w in WIDTHS),
            _profile(correlate_column(pixels, COLUMN * prior.scale_px), prior),
        ]
    )


def _pixel_noise(pixels: Array) -> float:
    """Standard deviation of the noise, from second differences along both axes, which vanish on
    smooth images (Immerkaer 1996)."""
    import cv2

    rough = cv2.filter2D(pixels, cv2.CV_32F, _ROUGH, borderType=cv2.BORDER_REFLECT)
    # The mean of |x| of a Gaussian is sqrt(2 / pi) of its deviation; the kernel's norm is 6.
    return float(cv2.norm(rough, cv2.NORM_L1)) / pixels.size * float(np.sqrt(np.pi / 2)) / 6


_ROUGH = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def _block_contrast(pixels: Array, side: float) -> float:
    """Standard deviation of the means over blocks of this side [px]."""
    import cv2

    height, width = (max(2, round(n / max(side, 1))) for n in pixels.shape)
    if (height, width) == pixels.shape:
        return float(pixels.std())
    return float(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).std())


def _laplacian(pixels: Array, sigma: float) -> Array:
    """The scale-normalised Laplacian, as the derivative of a Gaussian by log sigma."""
    return (smooth(pixels, sigma) - smooth(pixels, 1.1 * sigma)) / np.float32(0.1)


def _profile(response: Array, prior: Prior) -> Array:
    """Heights of the response's maxima at ``RANKS``, 0 beyond the last.

    They have the unit of the detector's threshold, so they show which threshold finds the expected
    count.
    """
    import cv2

    apart = 2 * max(1, round(0.25 * prior.scale_px)) + 1
    peaks = response[response >= cv2.dilate(response, np.ones((apart, apart), np.uint8))]
    ranks = (np.array(RANKS) * expected_count(prior, response.shape)).astype(np.intp)
    padded = np.zeros(max(len(peaks), ranks[-1] + 1), np.float32)
    padded[: len(peaks)] = np.sort(peaks)[::-1]
    return padded[ranks]


# Pictures -----------------------------------------------------------------------------------------


def whole(shape: tuple[int, int]) -> View:
    """All of a field."""
    return (0, 0, *shape)


def close_up(shape: tuple[int, int], scale_px: float) -> View:
    """The central ``CLOSE_UP`` spacings of a field, or the whole field if it is smaller."""
    height, width = (min(n, max(2, round(CLOSE_UP * scale_px))) for n in shape)
    return ((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def picture(artifact: Artifact, view: View) -> Array:
    """A thumbnail of part of an artifact, uint8 ``[SIDE, SIDE]``; blank if it has no positions."""
    if isinstance(artifact, Image):
        return image_picture(artifact, view)
    return described(artifact).thumbnail(artifact, view)


def image_picture(image: Image, view: View) -> Array:
    """A thumbnail of part of an image."""
    import cv2

    top, left, height, width = view
    part = image.pixels[top : top + height, left : left + width]
    small = cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return (np.clip(small, 0, 1) * 255).astype(np.uint8)
