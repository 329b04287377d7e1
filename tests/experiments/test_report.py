"""The report and its pictures, and the page in a real browser."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scopegym.agents.base import Front
from scopegym.answers import described
from scopegym.answers.regions import boundaries, by_area
from scopegym.artifacts import Labels, Points
from scopegym.datasets.simulate import simulate_crystal
from scopegym.datasets.simulate_patterns import two_grains
from scopegym.envs.problem import Problem
from scopegym.experiments import pictures, report
from scopegym.experiments.pictures import draw_front, draw_overlay
from scopegym.experiments.report import render_report, write_report
from scopegym.experiments.solve import Result
from scopegym.experiments.solving import solve
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior
from scopegym.rewards.base import Reward, Score
from scopegym.sample.calibration import Calibration
from scopegym.sample.crystal import crystal
from scopegym.sample.lattice import LatticeFit

HOSTILE = "<script>alert(1)</script>.tif"


@pytest.fixture(scope="module")
def result() -> Result:
    projection = crystal("YBa2Cu3O7").project((1, 0, 0))
    micrograph = simulate_crystal(projection, (128, 96), 0.0335, noise=0.3, seed=1)
    prior = projection.prior((128, 96), pixel_size_nm=0.0335)
    return solve(micrograph, "atoms", prior=prior, agent="random", budget=60, seed=0)


@pytest.fixture(scope="module")
def page(result: Result) -> str:
    return render_report(result)


@pytest.fixture(scope="module")
def segmented() -> Result:
    """Two grains, in an image whose map of labels the page reduces."""
    micrograph = two_grains((200, 500), 10.0, noise=0.5, seed=1, boundary_deg=70)
    micrograph = replace(micrograph, pixel_size_nm=0.02, name="grains.tif")
    return solve(micrograph, "symmetry", prior=Prior(10.0), agent="random", budget=40, seed=0)


def renamed(result: Result, **changes: Any) -> Result:
    """The result as if its micrograph had been another one with the same pixels."""
    old = result.problem.micrograph
    fields = {"pixel_size_nm": old.pixel_size_nm, "name": old.name, "metadata": old.metadata}
    micrograph = Micrograph(old.data, **{**fields, **changes})
    return replace(result, problem=replace(result.problem, micrograph=micrograph))


def data_of(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return dict(json.loads(found[1]))


class TestPage:
    def test_it_says_what_was_found(self, result: Result, page: str) -> None:
        assert f"{len(result.points)} columns found in simulated YBa2Cu3O7 [100] #1" in page
        assert f"score {result.chosen.score.value:.2f}" in page
        assert f"expected {result.problem.prior.count:.0f} ±" in page

    def test_it_explains_every_term_and_every_step(self, result: Result, page: str) -> None:
        for term in result.problem.reward.terms:
            assert term.name in page
        assert "How much more column-like" in page
        for step in result.chosen.workflow:
            assert f"<h3>{step.op}</h3>" in page

    def test_lengths_come_in_spacings_pixels_and_nanometres(self, result: Result) -> None:
        step = next(s for s in result.chosen.workflow if s.op == "refine_positions")
        rows = {name: row for name, *row in report._step(result, step)["rows"]}
        px = step.params["radius"] * result.problem.prior.scale_px
        assert rows["radius"][0] == f"{step.params['radius']:.3g} × spacing"
        assert rows["radius"][1] == f"{px:.3g} px = {px * 33.5:.3g} pm"

    def test_positions_of_every_front_trial_are_in_it(self, result: Result, page: str) -> None:
        entries = data_of(page)["entries"]
        assert len(entries) >= len(result.front) > 1
        for entry in entries:
            trial = result.trials[entry["number"] - 1]
            truth = result.problem.run(trial.workflow).need(Points)
            packed = np.frombuffer(base64.b64decode(entry["layer"]["yx"]), "<u2").reshape(-1, 2)
            np.testing.assert_allclose(packed / 65535 * truth.shape - 0.5, truth.yx, atol=0.01)

    def test_the_recipe_is_the_one_that_replays(self, result: Result, page: str) -> None:
        from html import unescape

        from scopegym.workflow import Workflow

        recipes = re.findall(r'<pre class="trial"[^>]*?(hidden)?>(.*?)</pre>', page, re.S)
        shown = [unescape(text) for hidden, text in recipes if not hidden]
        assert [Workflow.from_yaml(text) for text in shown] == [result.chosen.workflow]

    @pytest.mark.parametrize(("status", "kind"), [("agrees", "good"), ("measured", "warning")])
    def test_the_verdict_on_the_scale_is_said_once(
        self, result: Result, status: Any, kind: str
    ) -> None:
        fit = LatticeFit(((1.0, 0.0), (0.0, 1.0)))
        verdict = Calibration(status, "A verdict.", ("[001]", "[010]"), (1.0, 1.0), 0.03, 0.1, fit)
        page = render_report(replace(result, calibration=verdict, warnings=("A verdict.", "More.")))
        assert f'<p class="note {kind}">A verdict.</p>' in page
        assert page.count("A verdict.") == 1
        assert "More." in page

    def test_it_loads_nothing(self, page: str) -> None:
        assert re.findall(r"\b(?:src|srcset|href|action|poster)\s*=\s*(?!\"data:)", page) == []
        # The one address is the name of the SVG language, which nothing is loaded from.
        assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"http://www.w3.org/2000/svg"}
        assert "@import" not in page
        assert "url(" not in page

    def test_names_cannot_run(self, result: Result) -> None:
        page = render_report(renamed(result, name=HOSTILE, metadata={"file_sha256": '"><b>'}))
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;.tif" in page
        assert '"><b>' not in page

    def test_warnings_cannot_run_either(self, result: Result) -> None:
        page = render_report(replace(result, warnings=("<img src=x onerror=alert(1)>",)))
        assert "<img src=x" not in page

    def test_the_command_quotes_the_file(self, result: Result) -> None:
        page = render_report(renamed(result, name="a b.tif", metadata={"file_sha256": "0"}))
        assert "scopegym run workflow.yaml &#39;a b.tif&#39; --check" in page

    def test_it_is_the_same_every_time(self, result: Result, page: str) -> None:
        assert render_report(result) == page

    def test_it_is_light(self, page: str) -> None:
        assert len(page) < 1_000_000


def pixels_of(url: str) -> np.ndarray:
    """The grey levels in a data URL."""
    import cv2

    encoded = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))


class TestLabels:
    def test_the_page_says_what_was_found(self, segmented: Result) -> None:
        page = render_report(segmented)
        found = segmented.found
        assert f"<h1>{found.text} found in grains.tif; score" in page
        assert f"{found.where}; {found.detail}" in page
        assert "<dt>Expected</dt>" not in page
        assert len(page) < 3_000_000

    def test_every_front_trial_has_its_own_map(self, segmented: Result) -> None:
        entries = data_of(render_report(segmented))["entries"]
        assert len(entries) > 1
        for entry in entries:
            trial = segmented.trials[entry["number"] - 1]
            labels = segmented.problem.run(trial.workflow).need(Labels)
            drawn = pixels_of(entry["layer"]["map"])
            assert drawn.shape == (160, 400)
            # Every pixel of the map lies in the middle of 1.25 x 1.25 of the image.
            rows, columns = ((np.arange(n) + 0.5) * 1.25 for n in drawn.shape)
            truth = labels.map[np.ix_(rows.astype(int), columns.astype(int))]
            pairs = set(zip(drawn.ravel().tolist(), truth.ravel().tolist(), strict=True))
            assert len(pairs) == len(np.unique(truth)) == len(np.unique(drawn))
            assert sum(entry["layer"]["shares"]) == pytest.approx(1)

    def test_a_small_map_is_kept_as_it_is(self, segmented: Result) -> None:
        labels = Labels(np.arange(30).reshape(5, 6) // 15)
        layer = described(labels).layer(labels, segmented.problem)
        assert np.array_equal(pixels_of(layer["map"]), labels.map)

    def test_boundaries_lie_between_pixels(self) -> None:
        edges = boundaries(np.array([[0, 0], [0, 1]]))
        expected = [[[0.5, 0.5], [1.5, 0.5]], [[0.5, 0.5], [0.5, 1.5]]]
        assert edges.tolist() == expected
        assert boundaries(np.zeros((3, 3))).shape == (0, 2, 2)

    def test_the_overlay_tints_and_draws_the_boundary(self, segmented: Result) -> None:
        axes = draw_overlay(segmented).axes[0]
        grey, tint = axes.images
        assert grey.get_array().shape == (200, 500)
        colours = np.unique(tint.get_array().reshape(-1, 4), axis=0)
        assert len(colours) == segmented.found.count
        segments = axes.collections[0].get_segments()
        assert len(segments) == len(boundaries(segmented.labels.map))


class TestUnusual:
    def test_no_pixel_size(self, result: Result) -> None:
        page = render_report(renamed(result, pixel_size_nm=None))
        assert "The pixel size is unknown" in page
        assert " nm" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S)

    def test_a_front_of_one_trial(self, result: Result) -> None:
        single = replace(result, front=Front(result.problem.reward, [result.chosen]))
        assert len(data_of(render_report(single))["entries"]) == 1
        draw_front(single)

    def test_a_reward_of_one_term_is_shown_against_the_value(self, result: Result) -> None:
        old = result.problem
        problem = Problem(old.micrograph, old.prior, old.task, Reward("one", {"count_error": 1}))
        trials = tuple(problem.evaluate(trial.workflow) for trial in result.trials)
        front = Front(problem.reward, trials)
        lone = replace(result, problem=problem, trials=trials, front=front, chosen=front.best())
        assert [axis.name for axis in pictures.telling_axes(lone)] == ["count_error", "value"]
        render_report(lone)
        draw_front(lone)

    def test_a_failed_trial_is_left_out(self, result: Result) -> None:
        failed = replace(result.trials[0], failure="ValueError: no")
        trials = (*result.trials, failed)
        assert data_of(render_report(replace(result, trials=trials)))["trials"][-1] is None

    def test_answers_beyond_the_limit_are_counted_but_not_drawn(
        self, result: Result, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layer = described(result.points).layer(result.points, result.problem)
        monkeypatch.setattr(report, "MOST_CHARACTERS", len(json.dumps(layer)))
        entries = report.entries(result)
        drawn = [entry for entry in entries if entry.layer is not None]
        assert result.chosen in [entry.trial for entry in drawn]
        assert len(drawn) < len(entries)
        assert all(entry.finding.count > 0 for entry in entries)

    def test_a_large_image_is_reduced(self) -> None:
        import cv2

        url = report._png(report._reduced(np.zeros((100, 4000), np.uint8)))
        encoded = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
        assert cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE).shape == (40, 1600)


class TestPictures:
    def test_the_front_is_shown_in_the_terms_that_conflict(self, result: Result) -> None:
        """Count and spacing rise together, evidence falls as both rise."""
        values = [(0.0, 0.0, 0.6), (0.2, 0.1, 0.8), (0.4, 0.2, 0.9)]
        names = ("count_error", "spacing_error", "image_evidence")
        problem = replace(result.problem, reward=Reward("three", dict.fromkeys(names, 1.0)))
        trials = tuple(
            replace(result.trials[0], score=Score(dict(zip(names, row, strict=True)), 0.5))
            for row in values
        )
        made_up = replace(
            result, problem=problem, trials=trials, front=Front(problem.reward, trials)
        )
        assert len(made_up.front) == 3
        shown = [axis.name for axis in pictures.telling_axes(made_up)]
        assert shown == ["count_error", "image_evidence"]

    def test_the_overlay_is_the_image_enlarged_by_a_whole_number(self, result: Result) -> None:
        figure = draw_overlay(result)
        assert tuple(figure.get_size_inches() * figure.dpi) == pytest.approx((96 * 8, 128 * 8))

    def test_rings_sit_on_the_positions(self, result: Result) -> None:
        axes = draw_overlay(result).axes[0]
        np.testing.assert_array_equal(axes.collections[0].get_offsets(), result.points.yx[:, ::-1])

    def test_the_scale_bar_needs_a_scale(self, result: Result) -> None:
        assert [t.get_text() for t in draw_overlay(result).axes[0].texts] == ["500 pm"]
        assert not draw_overlay(renamed(result, pixel_size_nm=None)).axes[0].texts

    def test_files_are_the_same_every_time(self, result: Result, tmp_path: Path) -> None:
        for write in (pictures.write_overlay, pictures.write_front):
            write(result, tmp_path / "1.png")
            write(result, tmp_path / "2.png")
            first = (tmp_path / "1.png").read_bytes()
            assert first[:8] == b"\x89PNG\r\n\x1a\n"
            assert first == (tmp_path / "2.png").read_bytes()

    @pytest.mark.parametrize(
        ("direction", "places"), [("minimize", (0.0, 0.1, 1.0)), ("maximize", (0.0, 0.9, 1.0))]
    )
    def test_axes_spread_out_what_is_good(self, direction: Any, places: tuple[float, ...]) -> None:
        axis = pictures.Axis("a_term", direction, 0.0, 2.0)
        middle = 0.02 if direction == "minimize" else 1.98
        assert [axis.place(v) for v in (0.0, middle, 2.0)] == pytest.approx(places)

    @pytest.mark.parametrize(
        ("most", "nice", "name"),
        [(7.3, 5, "5 nm"), (0.19, 0.1, "100 pm"), (2000, 2000, "2 µm"), (1.0, 1, "1 nm")],
    )
    def test_scale_bars_have_round_lengths(self, most: float, nice: float, name: str) -> None:
        assert pictures.nice_length(most) == pytest.approx(nice)
        assert pictures.length_name(pictures.nice_length(most)) == name

    def test_grey_levels_survive_a_nearly_constant_image(self) -> None:
        data = np.zeros((40, 40), np.float32)
        data[3, 4] = 7
        assert pictures.grey_levels(data)[3, 4] == 255


class Browser:
    """Headless Chromium, spoken to over a pipe in its DevTools protocol."""

    FLAGS = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--remote-debugging-pipe",
    )
    #: The browser reads commands from descriptor 3 and writes answers to 4.
    LAUNCHER = (
        "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execvp(sys.argv[1], sys.argv[1:])"
    )

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self.commands = os.pipe()
        self.answers, theirs_out = os.pipe()
        launcher = self.LAUNCHER.format(theirs_in, theirs_out)
        self.process = subprocess.Popen(
            [sys.executable, "-c", launcher, program, *self.FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.events: list[dict[str, Any]] = []
        self.session: dict[str, str] = {}
        self.buffer = b""
        self.number = 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self.number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def _read(self, patience_s: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + patience_s
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.answers], [], [], left)[0], "browser is silent"
            chunk = os.read(self.answers, 1 << 20)
            assert chunk, "the browser has ended"
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, url: str, width: int, scheme: str = "light", height: int = 900) -> None:
        """Load a page at a width [CSS px] and wait until it stands."""
        self.call("Page.navigate", url="about:blank")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        # Two frames later everything that the load has set off is drawn.
        self.value("new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))")

    def value(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """What the page threw, logged as an error or asked the network for."""
        found = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(f"threw {params['exceptionDetails']}")
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(f"console: {params['args']}")
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"log: {params['entry']['text']}")
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    found.append(f"asked for {url}")
        return found

    def close(self) -> None:
        """End the browser that this object has started."""
        os.close(self.commands)  # at the end of its commands the browser leaves
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.answers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    running = Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def address(result: Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(renamed(result, name=HOSTILE), path)
    return path.as_uri()


@pytest.fixture(scope="module")
def label_address(segmented: Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("labels") / "report.html"
    write_report(segmented, path)
    return path.as_uri()


#: True once the maps are decoded and painted.
DECODED = "new Promise(f => setTimeout(f, 250)).then(() => true)"
#: Mean of the red and the blue channel at a place on the canvas, in shares of its sides.
COLOUR = (
    "(() => {{ const c = document.getElementById('overlay'), d = c.getContext('2d')"
    ".getImageData({x} * c.width - 10, {y} * c.height - 10, 20, 20).data; let r = 0, b = 0;"
    "for (let i = 0; i < d.length; i += 4) {{ r += d[i]; b += d[i + 2]; }}"
    "return [4 * r / d.length, 4 * b / d.length]; }})()"
)
#: Numbers of the trials whose workflows, and whose recipes, can be seen.
SHOWN = "[...document.querySelectorAll('article.trial:not([hidden])')].map(e => +e.dataset.number)"
RECIPES = "[...document.querySelectorAll('pre.trial:not([hidden])')].map(e => +e.dataset.number)"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PICTURE = "document.getElementById('overlay').toDataURL()"


class TestBrowser:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 400])
    def test_it_runs_and_fits(
        self, browser: Browser, address: str, width: int, scheme: str
    ) -> None:
        browser.open(address, width, scheme)
        assert browser.complaints == []
        assert browser.value("innerWidth") == width
        assert browser.value(OVERFLOW) <= 0
        assert browser.value("document.querySelectorAll('#front [data-trial]').length") > 1

    def test_the_address_chooses_a_trial(
        self, browser: Browser, address: str, result: Result
    ) -> None:
        browser.open(address, 1280)
        chosen = report.entries(result)
        first = next(entry.number for entry in chosen if entry.trial is result.chosen)
        other = next(entry.number for entry in chosen if entry.trial is not result.chosen)
        assert browser.value(SHOWN) == [first]
        before = browser.value(PICTURE)
        browser.open(f"{address}#trial={other}", 1280)
        assert browser.value(SHOWN) == [other]
        assert browser.value(RECIPES) == [other]
        assert browser.value(PICTURE) != before
        assert browser.complaints == []

    def test_an_address_of_no_front_trial_shows_the_chosen_one(
        self, browser: Browser, address: str
    ) -> None:
        browser.open(address, 1280)
        chosen = browser.value(SHOWN)
        browser.open(f"{address}#trial=99999", 1280)
        assert browser.value(SHOWN) == chosen
        assert browser.complaints == []

    def test_pointing_previews_and_clicking_chooses(self, browser: Browser, address: str) -> None:
        browser.open(address, 1280)
        first = browser.value(SHOWN)
        browser.value("p = document.querySelector('#front .entry:not(.chosen)'); 0")
        browser.value("p.dispatchEvent(new PointerEvent('pointerenter')); 0")
        pointed = browser.value(SHOWN)
        assert pointed != first
        browser.value("p.dispatchEvent(new PointerEvent('pointerleave')); 0")
        assert browser.value(SHOWN) == first
        browser.value("p.dispatchEvent(new MouseEvent('click')); 0")
        assert browser.value(SHOWN) == pointed
        assert browser.value("location.hash") == f"#trial={pointed[0]}"
        assert browser.value("p.getAttribute('aria-checked')") == "true"

    def test_the_keyboard_goes_through_the_front(self, browser: Browser, address: str) -> None:
        browser.open(address, 1280)
        count = browser.value("document.querySelectorAll('#front .entry').length")
        browser.value("document.querySelector('#front .entry[tabindex=\"0\"]').focus()")
        seen = set()
        for _ in range(count):
            for kind in ("keyDown", "keyUp"):
                browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight")
            seen.add(browser.value(SHOWN)[0])
        assert len(seen) == count
        assert browser.complaints == []

    def test_every_control_works(self, browser: Browser, address: str) -> None:
        browser.open(address, 1280)
        before = browser.value(PICTURE)
        for control in ("closer", "farther", "whole", "next", "previous", "back", "rings", "rings"):
            browser.value(f"document.getElementById('{control}').click()")
        for axis in ("x-axis", "y-axis"):
            browser.value(
                f"for (const o of document.getElementById('{axis}').options)"
                f"{{ o.selected = true; document.getElementById('{axis}').onchange(); }}"
            )
        assert browser.value(PICTURE) == before
        assert browser.complaints == []

    @pytest.mark.parametrize("width", [1280, 400])
    def test_labels_run_and_fit(self, browser: Browser, label_address: str, width: int) -> None:
        browser.open(label_address, width)
        assert browser.value(DECODED)
        assert browser.complaints == []
        assert browser.value(OVERFLOW) <= 0

    def test_regions_are_tinted(
        self, browser: Browser, label_address: str, segmented: Result
    ) -> None:
        browser.open(label_address, 1280)
        assert browser.value(DECODED)
        left, right = patterns = by_area(segmented.labels.map)[100, [50, 450]]
        assert left != right
        for x, pattern in zip((0.1, 0.9), patterns, strict=True):
            red, blue = browser.value(COLOUR.format(y=0.5, x=x))
            assert (blue > red + 10) if pattern == 0 else (red > blue + 10)
        browser.value("document.getElementById('rings').click()")
        red, blue = browser.value(COLOUR.format(y=0.5, x=0.1))
        assert red == blue

    def test_every_trial_shows_its_own_map_and_key(
        self, browser: Browser, label_address: str, segmented: Result
    ) -> None:
        drawn = set()
        entries = report.entries(segmented)
        for entry in entries:
            browser.open(f"{label_address}#trial={entry.number}", 1280)
            assert browser.value(DECODED)
            drawn.add(browser.value(PICTURE))
            key = browser.value("document.querySelectorAll('#patterns li').length")
            assert key == entry.finding.count
            assert entry.finding.text in browser.value(
                "document.getElementById('caption').textContent"
            )
            assert browser.complaints == []
        assert len(drawn) == len({json.dumps(entry.layer) for entry in entries}) > 1

    def test_copying_works_or_selects(self, browser: Browser, address: str) -> None:
        browser.open(address, 1280)
        browser.value("document.getElementById('copy').onclick()")
        assert browser.value("getSelection().toString()").startswith("recipe: 1")
        assert browser.value("document.getElementById('copied').textContent") != ""
        assert browser.complaints == []

    @pytest.mark.parametrize(
        "fault",
        [
            "<script>thing.that.is.not.there()</script>",
            "<script>Promise.reject(new Error('late'))</script>",
            "<script>console.error('a complaint')</script>",
            "<img src='https://example.invalid/x.png'>",
        ],
    )
    def test_these_tests_would_see_a_broken_page(
        self, browser: Browser, page: str, tmp_path: Path, fault: str
    ) -> None:
        path = tmp_path / "broken.html"
        path.write_text(page.replace("</body>", f"{fault}</body>"), encoding="utf-8")
        browser.open(path.as_uri(), 1280)
        assert browser.complaints != []

    def test_these_tests_would_see_a_fault_in_the_script(
        self, browser: Browser, page: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "broken.html"
        path.write_text(page.replace("charts();\nfromHash();", "charts(;"), encoding="utf-8")
        browser.open(path.as_uri(), 1280)
        assert browser.complaints != []

    def test_these_tests_would_see_a_page_too_wide(
        self, browser: Browser, page: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "wide.html"
        path.write_text(page.replace("<h1>", "<h1 style='width: 700px'>"), encoding="utf-8")
        browser.open(path.as_uri(), 400)
        assert browser.value(OVERFLOW) > 0
