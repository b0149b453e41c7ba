"""Times plain and dynamic networks side by side on a GPU, the strongest plain ones among them.

    python -m tests.gpu.opponents --json output/gpu/opponents.json --limit 300 --only A B8

Networks are float16 and channels-last, batch norms folded. All contestants of a group take turns
on the same images; ratios are to the fastest plain one. Whatever fails is named and stops nothing.
``--device cpu --tiny`` runs everything in small, to find mistakes without a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

START = time.perf_counter()
CACHE = Path("output/gpu/inductor")
"""Of the compiler, unless TORCHINDUCTOR_CACHE_DIR says otherwise."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--json", type=Path, required=True, metavar="FILE")
    options.add_argument("--limit", type=float, default=600, help="seconds for the whole run")
    options.add_argument("--only", nargs="+", metavar="GROUP", help="names, or first letters")
    options.add_argument(
        "--max-autotune",
        nargs="*",
        default=["A"],
        metavar="GROUP",
        help="groups that have it too, at the end",
    )
    options.add_argument("--seconds", type=float, default=8, help="of timing a group")
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--tiny", action="store_true", help="small images and networks")
    options.add_argument("--execution", default="auto", choices=["auto", "sparse", "masked"])
    options.add_argument(
        "--warm",
        action=argparse.BooleanOptionalAction,
        help="first compile all networks at once, each in a process of its own, to fill the "
        "caches; by default on a GPU",
    )
    options.add_argument(
        "--warm-only", action="store_true", help="nothing but that, beside whatever else runs"
    )
    options.add_argument("--compile-alone", metavar="NETWORK", help=argparse.SUPPRESS)
    options.add_argument(
        "--profile", action="store_true", help="also write the kernels of A and C8, beside FILE"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs the groups in order of importance as far as time allows; returns what FILE holds."""
    args = parser().parse_args(arguments)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    _settings(args)
    # Imported once the compiler's settings are in the environment.
    from tests.gpu import groups, report, timing, warming
    from tests.gpu.contestants import Preparation
    from tests.gpu.networks import Place

    dtype = torch.float16 if args.device == "cuda" else torch.float32
    place = Place(torch.device(args.device), dtype)
    start = time.perf_counter() if arguments is not None else START

    def seconds_left() -> float:
        return args.limit - (time.perf_counter() - start)

    chosen = [g for g in groups.GROUPS if not args.only or _named(g.name, args.only)]
    chosen = [groups.tiny(group) if args.tiny else group for group in chosen]
    if args.compile_alone:
        preparation = Preparation(place, seconds_left, captures=False)
        warming.compile_groups(chosen, args.compile_alone, preparation, args.execution)
        return {}
    result = report.header(args)
    # Last, since it takes long.
    tuned = [g for g in chosen if _named(g.name, args.max_autotune) and not g.models]
    if args.warm_only:
        result["figures"] = {"seconds": warming.warm(chosen, args, seconds_left())}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        return result
    if args.warm or (args.warm is None and place.on_gpu):
        result["warm_s"] = warming.warm(chosen, args, seconds_left())
    preparation = Preparation(place, seconds_left)
    # Networks of all groups share their code, which is compiled anew for each. torch 2.6 calls the
    # limit by its old name.
    dynamo = torch._dynamo.config
    limit = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    with torch.no_grad(), dynamo.patch({limit: 64}):
        result["ceilings"] = timing.ceilings(place)
        print(report.ceilings_line(result), flush=True)
        for group in [*chosen, *map(groups.autotuned, tuned)]:
            needed = "max-autotune" if "max-autotune" in group.plain else "eager"
            if not preparation.fits(needed):
                result["left_out"].append({"what": group.title, "why": "no time left"})
                continue
            begun = time.perf_counter()
            entry = _run_group(group, preparation, args, result["left_out"])
            entry["seconds"] = round(time.perf_counter() - begun, 1)
            result["groups"].append(entry)
            result["seconds"] = round(time.perf_counter() - start, 1)
            args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            print(report.table(entry), flush=True)
    for left in result["left_out"]:
        print(f"left out: {left['what']}: {left['why']}")
    args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _named(name: str, names: Sequence[str]) -> bool:
    return any(name == one or name[0] == one for one in names)


def _settings(args: argparse.Namespace) -> None:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE.absolute()))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(min(os.cpu_count() or 1, 16)))
    # What runs once must not wait for cuDNN to try its kernels.
    torch.backends.cudnn.benchmark = not args.compile_alone


def _run_group(group, preparation, args: argparse.Namespace, left_out: list) -> dict[str, Any]:
    """What FILE holds of a group."""
    from tests.gpu import profiles, timing

    contestants = _prepared(group, preparation, args, left_out)
    entry = {
        "group": group.name,
        "title": group.title,
        "size": list(group.size),
        "batch": group.batch,
        "rows": timing.time_group(contestants, preparation.place, args.seconds),
    }
    if args.profile and group.name in ("A", "C8"):
        file = args.json.with_name(f"{args.json.stem}_kernels_{group.name}.txt")
        profiles.write(contestants, file)
        entry["profile"] = str(file)
    contestants.clear()
    torch._dynamo.reset()
    gc.collect()
    if preparation.place.on_gpu:
        torch.cuda.empty_cache()
    return entry


def _prepared(group, preparation, args: argparse.Namespace, left_out: list) -> list:
    from tests.gpu import groups
    from tests.gpu.checks import check
    from tests.gpu.contestants import Contestant, one_line

    contestants = []
    try:
        for one in groups.prepared(group, preparation, args.execution):
            if isinstance(one, Contestant):
                contestants.append(one)
                result = one.error or f"{one.seconds:.1f} s"
                print(f"{group.name} {one.label}: {result}", flush=True)
            else:
                left_out.append({"what": f"{group.name}: {one[0]}", "why": one[1]})
        check(contestants)
    except Exception as error:  # the other groups go on
        left_out.append({"what": group.title, "why": one_line(error)})
    return contestants


if __name__ == "__main__":
    main()
