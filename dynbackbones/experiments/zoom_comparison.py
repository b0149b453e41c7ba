"""All ways to detect in large images, evaluated and timed in one run."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dynbackbones.experiments.zoom_data import ZoomData
from dynbackbones.experiments.zoom_table import COARSE, EVERY, WHOLE, Row, Tables, timed
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.detector import ZoomDetector
from dynbackbones.zoom.learned import LearnedPolicy
from dynbackbones.zoom.measured import Measured


def compare(
    zoom: ZoomDetector,
    data: ZoomData,
    measured: Sequence[Measured],
    gains: Sequence[Measured],
    settings: Mapping[str, Any],
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    count: int,
    sahi: bool,
    reinforce: bool,
    progress: Callable[[Iterable[int], int], Iterable[int]],
) -> list[Row]:
    """The rows of a table.

    Args:
        zoom: the wrapped detector.
        data, measured: what to evaluate on, and both passes over it.
        gains: measured images for policies.
        settings: what these were measured with.
        rates: shares of patches.
        seeds: of policies.
        count: images to time.
        sahi: whether to have a row of that library.
        reinforce: whether to have rows of policies that the policy gradient trained.
        progress: wraps images to show how far it is; given their number too.
    """
    tables = Tables(zoom, data, measured, gains)
    policies = tables.policies(seeds, settings)
    ways: dict[str, Callable[[Any], Any]] = {WHOLE: zoom.whole}
    if sahi:
        from dynbackbones.experiments.sahi_slices import SahiSlices

        slices = SahiSlices(zoom)
        ways["sahi"] = slices.detect
    print(f"whole images, {len(measured)} of {data.name}", flush=True)
    found: dict[str, dict[int, Boxes]] = defaultdict(dict)
    for number in progress(data.numbers, len(data.numbers)):
        image = data.load(number).image
        for name, way in ways.items():
            found[name][number] = way(image).cpu()
    rows = [tables.whole(found[WHOLE])]
    if sahi:
        name = f"sahi, slices of {slices.edge} and one reduced pass"
        rows.append(tables.sliced(name, found["sahi"], *slices.costs(measured[0].grid.size)))
        ways[name] = ways.pop("sahi")
    rows += tables.fixed()
    for rate in rates:
        rows += [*tables.heuristics(rate), tables.learned(policies, rate), tables.oracle(rate)]
        if reinforce:
            others = tables.policies(seeds, settings, training="reinforce", rate=rate)
            rows.append(tables.learned(others, rate, "learned by policy gradient"))
    _time(rows, zoom, ways, policies[0], rates, data, count, progress)
    return rows


def _time(
    rows: Sequence[Row],
    zoom: ZoomDetector,
    ways: Mapping[str, Callable[[Any], Any]],
    policy: LearnedPolicy,
    rates: Sequence[float],
    data: ZoomData,
    count: int,
    progress: Callable[[Iterable[int], int], Iterable[int]],
) -> None:
    """Fills in milliseconds and speeds, of real calls in turn."""
    def run(policy: Any, rate: float | None) -> Callable[[Any], Any]:
        other = zoom.like(policy=policy, rate=rate)
        return lambda image: other.run([image])

    keys: dict[tuple[str, float | None], Callable[[Any], Any]] = {
        (name, None): way for name, way in ways.items()
    }
    keys[COARSE, 0.0] = run("none", None)
    keys[EVERY, 1.0] = run("all", None)
    for rate in rates:
        keys["learned", rate] = run(policy, rate)
    print(f"timed, {min(count, len(data.numbers))} images one by one, in turn", flush=True)
    # The first images of a data set may be easier than others: every k-th.
    numbers = data.numbers[:: max(1, len(data.numbers) // count)][:count]
    images = (data.load(number).image for number in progress(numbers, len(numbers)))
    seconds = list(timed(keys, images))
    means = {key: statistics.fmean(s[key] for s in seconds) for key in keys}
    for row in rows:
        key = row.name, row.asked
        if key in means:
            row.ms = 1e3 * means[key]
            row.speed = means[key] / means[WHOLE, None]
