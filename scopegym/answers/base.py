"""How to compare, describe, write and draw one kind of answer.

One file defines an artifact and the ``Kind`` that describes it, here or in a plug-in. No other
module tests which kind an answer has.
"""

from __future__ import annotations

import base64
import inspect
import io
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from scopegym.artifacts import Array, Artifact, State, kind_of
from scopegym.frozen import FrozenDict
from scopegym.prior import Prior
from scopegym.registry import Registry

if TYPE_CHECKING:
    from scopegym.envs.problem import Problem

#: Side of a thumbnail [px].
SIDE = 48
#: Top, left, height and width of the part of a field that a thumbnail shows [px].
View = tuple[int, int, int, int]
#: Colours that are distinct for all types of colour vision (Okabe and Ito, 2008). The first two
#: differ most on any grey.
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000",
)  # fmt: skip
#: Marks on an image: amber differs from every grey, for all types of colour vision.
AMBER = "#ffb000"
#: Longer side of an overlay that the page shows as a picture [px].
PICTURE_PX = 800
#: Answers with less agreement count as wrong.
HALF = 0.5

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Finding:
    """The summary of an answer: a count, its location, and more in ``detail``.

    ``expected`` is the count in the prior, None if the prior has none. ``numbers`` go into
    ``result.json``. ``said`` replaces the text if the answer is not a count.
    """

    count: int
    noun: str
    where: str = ""
    detail: str = ""
    expected: float | None = None
    numbers: Mapping[str, Any] = field(default_factory=lambda: FrozenDict({}))
    said: str = ""

    @property
    def text(self) -> str:
        """The finding in a few words, such as ``2 patterns in 3 regions``."""
        return self.said or f"{counted(self.count, self.noun)} {self.where}".strip()


def counted(count: int, plural: str) -> str:
    """A number and what it counts, in the singular where it is one."""
    return f"{count:,} {plural if count != 1 else plural.removesuffix('s')}"


class Kind(ABC, Generic[A]):
    """Description of one kind of artifact that answers a task."""

    #: The class of artifact that this describes.
    artifact: type[A]
    #: Whether answers of windows can be merged into one.
    mergeable: ClassVar[bool] = False
    #: The files that ``write`` may write.
    files: ClassVar[tuple[str, ...]] = ()
    #: Names of the ``statistics``.
    statistic_names: ClassVar[tuple[str, ...]] = ()
    #: JavaScript that draws a ``layer`` on the report's canvas: an object with the function
    #: ``paint(context, layer, scale)``, and if needed ``prepare(layer)``, which may wait, and
    #: ``key(layer)``, rows of colour and text.
    script: ClassVar[str] = """{
  async prepare(layer) {
    const picture = Object.assign(new Image(), {src: layer.picture});
    await picture.decode();
    layer.image = picture;
  },
  paint(context, layer, scale) {
    if (!layer.image) return;
    context.drawImage(layer.image, -view.x * scale, -view.y * scale, W * scale, H * scale);
  },
}"""

    @property
    def name(self) -> str:
        """Name in the registry: the artifact's class name in lower case."""
        return self.artifact.__name__.casefold()

    # Truth

    def measure(self, truth: A) -> str:
        """Name of the measure of agreement with a truth, such as F1."""
        del truth
        return "agreement"

    @abstractmethod
    def agreement(self, truth: A, found: A, prior: Prior) -> float:
        """Agreement of an answer with the truth, 0..1."""

    def wrong_below(self, truth: A) -> float:
        """Answers with less agreement than this count as wrong."""
        del truth
        return HALF

    # Words and files

    @abstractmethod
    def finding(self, answer: A, problem: Problem) -> Finding:
        """The summary of an answer in numbers and words."""

    def write(self, answer: A, state: State, size_nm: float | None, folder: Path) -> None:
        """Write the answer's tables into a folder. ``state`` is the workflow's final state,
        ``size_nm`` the pixel size [nm]."""
        del answer, state, size_nm, folder

    # Pictures

    def draw(self, answer: A, axes: Any, prior: Prior, zoom: float) -> None:
        """Draw an answer over its image on matplotlib axes in pixels, enlarged ``zoom`` times."""
        del answer, axes, prior, zoom

    def layer(self, answer: A, problem: Problem) -> dict[str, Any]:
        """Plain values that ``script`` draws on the report. By default: the picture of ``draw``
        without the image."""
        return {"picture": _picture(self, answer, problem)}

    # What a policy sees

    def statistics(self, answer: A, prior: Prior) -> Array:
        """A fixed number of figures that do not depend on the magnification: see
        ``statistic_names``."""
        del answer, prior
        return np.zeros(len(self.statistic_names))

    def thumbnail(self, answer: A, view: View) -> Array:
        """A picture of part of the field, uint8 ``[SIDE, SIDE]``."""
        del answer, view
        return np.zeros((SIDE, SIDE), np.uint8)

    # What an audit tries

    @property
    def adversaries(self) -> list[Adversary]:
        """The adversaries: functions that make wrong answers of this kind."""
        return [entry for entry in adversaries.values() if entry.kind is self.artifact]


def _picture(kind: Kind[Any], answer: Artifact, problem: Problem) -> str:
    """The drawing of an answer on a transparent background, as the data URL of a PNG."""
    from matplotlib.figure import Figure

    height, width = problem.source.shape
    zoom = PICTURE_PX / max(height, width)
    figure = Figure(figsize=(width * zoom / 100, height * zoom / 100), dpi=100)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    kind.draw(answer, axes, problem.prior, zoom)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return data_url(content.getvalue())


def data_url(png: bytes) -> str:
    """A PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def seam(width: float) -> list[Any]:
    """Effects of matplotlib that keep a line of this width visible where the image is white."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width + 0.9, foreground="#0007"), Normal()]


#: All kinds by name.
registry: Registry[Kind[Any]] = Registry("kind of answer")


def answer_kind(described: type[Kind[Any]]) -> type[Kind[Any]]:
    """Register a class that describes a kind of answer."""
    registry.add(described())
    return described


def described(artifact: Artifact | type[Artifact]) -> Kind[Any]:
    """The description of an artifact's kind. Raises UnknownNameError when it has none."""
    kind = artifact if isinstance(artifact, type) else type(artifact)
    return registry[kind_of(kind).__name__.casefold()]


# Figures ------------------------------------------------------------------------------------------


def expected_count(prior: Prior, shape: tuple[int, int]) -> float:
    """The prior's count; without one, the number of square spacings in the field."""
    area = shape[0] * shape[1]
    return max(1.0, area / prior.scale_px**2 if prior.count is None else prior.count)


def decades(values: Any, floor: float = 1e-3) -> Array:
    """Positive figures, one to three decades below 1, mapped to about -1..1."""
    return np.log10(np.maximum(values, floor)) / 1.5 + 1


# Agreement ----------------------------------------------------------------------------------------


def agreement(truth: Artifact | None, found: Artifact | None, prior: Prior) -> float:
    """Agreement of an answer with the truth, 0..1.

    NaN without a truth; 0 without an answer or for an answer of another kind.
    """
    if truth is None:
        return float("nan")
    kind = described(truth)
    return kind.agreement(truth, found, prior) if isinstance(found, kind.artifact) else 0.0


# Wrong answers ------------------------------------------------------------------------------------

#: Errors of the pixel size that are tried.
ERRORS = (0.05, 0.1, 0.3)

Answers = Callable[["Problem", Any, np.random.Generator], Iterator[Artifact]]


@dataclass(frozen=True)
class Adversary:
    """A ``function`` that makes wrong answers of one ``kind`` from a problem, its truth and chance.

    Each answer is right in one respect, such as the count, the spacing or the area.
    """

    name: str
    kind: type[Artifact]
    function: Answers
    about: str

    @property
    def title(self) -> str:
        """Name without the kind."""
        return self.name.partition(": ")[2]


#: All adversaries by ``kind: name``.
adversaries: Registry[Adversary] = Registry("adversary")


def adversary(title: str) -> Callable[[Answers], Answers]:
    """Register a function of problem, truth and random generator; the kind is the truth's type."""

    def register(function: Answers) -> Answers:
        names = {**inspect.unwrap(function).__globals__, "Problem": Any}
        kind = typing.get_type_hints(function, globalns=names)["truth"]
        name = f"{kind.__name__.casefold()}: {title}"
        adversaries.add(Adversary(name, kind, function, inspect.getdoc(function) or ""))
        return function

    return register
