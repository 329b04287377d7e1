"""An episode as a picture: the input, the current image, the result, and the steps so far."""

from __future__ import annotations

import numpy as np

from scopegym.answers import described
from scopegym.artifacts import Array
from scopegym.envs.episode import Episode

#: Size of the picture [inches] and its resolution [dots per inch].
SIZE, DPI = (12.0, 4.4), 80


def render(episode: Episode) -> Array:
    """uint8 ``[H, W, 3]``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    state = episode.state
    result = state.get(episode.problem.task.answer)
    panels = (("input", state.source, None), ("image", state.image, None))
    for axes, (title, image, over) in zip(
        figure.subplots(1, 3), (*panels, ("result", state.source, result)), strict=True
    ):
        axes.imshow(image.pixels, cmap="gray", vmin=0, vmax=1)
        if over is not None:
            described(over).draw(over, axes, episode.problem.prior, 1.0)
        axes.set_title(title)
        axes.set_axis_off()
    figure.suptitle(f"{episode.problem.micrograph.name}: score {episode.score.value:.3f}")
    figure.supxlabel(_said(episode), fontsize=9)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _said(episode: Episode) -> str:
    lines = [str(step) for step in episode.steps] or ["nothing yet"]
    if episode.draft is not None:
        names = (
            episode.draft.op,
            ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in episode.draft.values),
        )
        lines.append("{}({} …".format(*names))
    if episode.failure or episode.illegal:
        lines.append(episode.failure or "an illegal action")
    if episode.ended:
        lines.append(episode.ended)
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
