"""What a trained detector spends and finds at several rates."""

from __future__ import annotations

import argparse

from dynbackbones.analysis.latency_plot import plot_spending
from dynbackbones.cli.benchmark.networks import treated
from dynbackbones.cli.benchmark.options import TREATMENTS
from dynbackbones.cli.benchmark.report import write_json
from dynbackbones.cli.trained_models import use_own_weights
from dynbackbones.training.progress import show_rounds


def measure_spending(args: argparse.Namespace) -> None:
    """Calibrates the detector of ``--calibrate`` to each rate; prints and writes the curve.

    Raises:
        UserError: its config, its weights or its dataset are at fault.
    """
    from dynbackbones.integrations.torchvision import spending
    from dynbackbones.integrations.torchvision.config import load_config
    from dynbackbones.integrations.torchvision.predictor import load_predictor

    opts = ["MODEL.DEVICE", "cpu", *(["MODEL.WEIGHTS", args.weights] if args.weights else [])]
    cfg = load_config(args.calibrate, opts)
    if not args.weights:
        use_own_weights(cfg, args.calibrate, "give --weights FILE")
    print(f"weights: {cfg.MODEL.WEIGHTS}", flush=True)
    detector = treated(load_predictor(cfg).model, args.treatment)
    points = spending.spending_curve(cfg, detector, args.rates, progress=show_rounds)
    print(
        f"{args.calibrate}, one image at a time, {args.threads} thread(s), "
        f"{TREATMENTS[args.treatment]}\n"
    )
    print(spending.spending_table(points))
    if args.json is not None:
        write_json(args.json, [vars(point) for point in points])
    if args.plot is not None:
        labels = [f"{point.rate:.2f}" for point in points]
        aps = [point.ap for point in points]
        plot_spending([point.seconds for point in points], aps, labels, args.plot)
