"""What the benchmark of opponents prints and writes."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import torch


def header(args: argparse.Namespace) -> dict[str, Any]:
    """What a run's JSON says before any group has run."""
    on_gpu = args.device == "cuda"
    left_out = []
    for library in ("tensorrt", "torch_tensorrt"):
        if importlib.util.find_spec(library) is None:
            left_out.append({"what": "TensorRT", "why": f"no {library}"})
            break
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
        "triton": _version("triton"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "dtype": "float16" if on_gpu else "float32",
        "execution": args.execution,
        "tiny": args.tiny,
        "limit_s": args.limit,
        "seconds": 0.0,
        "ceilings": {},
        "groups": [],
        "left_out": left_out,
    }


def _version(library: str) -> str | None:
    if importlib.util.find_spec(library) is None:
        return None
    return importlib.import_module(library).__version__


def ceilings_line(result: dict[str, Any]) -> str:
    """What runs, and what the device reaches at all."""
    ceilings = result["ceilings"]
    return (
        f"{result['device']}, torch {result['torch']}, triton {result['triton']}: copies "
        f"{ceilings['copy_tb_per_s']:.2f} TB/s, products {ceilings['matmul_tflop_per_s']:.0f} "
        "TFLOP/s"
    )


def table(entry: dict[str, Any]) -> str:
    """A group's rows as a Markdown table, the fastest plain one marked."""
    lines = [
        f"\n{entry['title']}\n",
        "| network | treatment | rate | median ms | quartiles | ratio | GMAC | difference | "
        "prepared in s | note |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = sorted(entry["rows"], key=lambda row: (not row["plain"], row["rate"] or 0.0))
    for row in rows:
        cells = [row["network"], row["treatment"], _number(row["rate"], ".2f")]
        if "median_ms" in row:
            best = " (strongest)" if row["plain"] and row["ratio"] == 1 else ""
            quartiles = f"{row['first_quartile_ms']:.2f} to {row['third_quartile_ms']:.2f}"
            cells += [f"{row['median_ms']:.2f}{best}", quartiles, _number(row["ratio"], ".3f")]
        else:
            cells += ["-", "-", "-"]
        cells += [_number(row["gmacs"], ".1f"), _number(row["relative_error"], ".1e")]
        cells += [f"{row['prepare_s']:.1f}", row["error"] or row["note"]]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
