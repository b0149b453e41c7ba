"""What users could run in place of a dynamic network: the plain one in faster runtimes.

An opponent is a function that prepares a static network for some images and returns its forward
pass. It runs in a process of its own, see `dynbackbones.analysis.workers`.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.analysis.candidates import Candidate, Ready

Run = Callable[[], object]


class Opponent(NamedTuple):
    """A runtime.

    Attributes:
        prepare: from a network with folded norm layers, in evaluation mode, and channels-last
            images to a forward pass.
        needs: packages.
        dtypes: that it computes in.
        purpose: for the help.
        same_type: whether it computes in the type that all do. Others are shown as context, and no
            ratio is to them.
    """

    prepare: Callable[[nn.Module, Tensor], Run]
    needs: tuple[str, ...]
    dtypes: tuple[str, ...]
    purpose: str
    same_type: bool = True


class Features(nn.Module):
    """A backbone that returns a tuple, since exporters take no dicts.

    Args:
        net: the backbone.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.net(images).values())


def compiled(net: nn.Module, images: Tensor) -> Run:
    """`torch.compile` for this shape, with weights as constants."""
    return partial(torch.compile(net, dynamic=False, options={"freezing": True}), images)


def onnxruntime(net: nn.Module, images: Tensor, int8: bool = False) -> Run:
    """ONNX Runtime; in int8 with its post-training quantisation (`to_int8`)."""
    from dynbackbones.export import to_onnx
    from dynbackbones.export.running import session

    with TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        to_onnx(net, file)
        if int8:
            from dynbackbones.export.int8 import to_int8

            # What a forward pass takes does not depend on the ranges that it is given.
            to_int8(file, file, [images], overwrite=True)
        opened = session(file, torch.get_num_threads())
    inputs = {"images": images.contiguous().numpy()}
    return lambda: opened.run(None, inputs)


def openvino(net: nn.Module, images: Tensor) -> Run:
    """OpenVINO, in the type of the images and in no other."""
    return _compiled_by_openvino(_openvino_model(net, images), images)


def openvino_int8(net: nn.Module, images: Tensor) -> Run:
    """OpenVINO with NNCF's post-training quantisation; what stays is in the images' type."""
    import nncf

    data = nncf.Dataset([images.float().contiguous().numpy()])
    model = nncf.quantize(_openvino_model(net, images), data, subset_size=1)
    return _compiled_by_openvino(model, images)


def _openvino_model(net: nn.Module, images: Tensor) -> Any:
    import openvino as ov

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which holds for one shape, as it should
        model = ov.convert_model(Features(net.float()), example_input=images.float())
    model.reshape(list(images.shape))
    return model


def _compiled_by_openvino(model: Any, images: Tensor) -> Run:
    import openvino as ov

    hint = {torch.float32: "f32", torch.bfloat16: "bf16"}[images.dtype]
    config = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    request = ov.compile_model(model, "CPU", config).create_infer_request()
    array = images.float().contiguous().numpy()
    return lambda: request.infer([array], share_inputs=True, share_outputs=True)


OPPONENTS = {
    "compiled": Opponent(
        compiled, (), ("float32", "bfloat16"), "torch.compile with frozen weights"
    ),
    "onnxruntime": Opponent(
        onnxruntime, ("onnx", "onnxruntime"), ("float32",), "ONNX Runtime with an exported file"
    ),
    "openvino": Opponent(openvino, ("openvino",), ("float32", "bfloat16"), "OpenVINO"),
    "onnxruntime-int8": Opponent(
        partial(onnxruntime, int8=True),
        ("onnx", "onnxruntime"),
        ("float32",),
        "ONNX Runtime in int8, as context",
        same_type=False,
    ),
    "openvino-int8": Opponent(
        openvino_int8,
        ("openvino", "nncf"),
        ("float32", "bfloat16"),
        "OpenVINO in int8, as context",
        same_type=False,
    ),
}


def missing(name: str) -> str | None:
    """The first package that an opponent needs and that is not installed."""
    needs = OPPONENTS[name].needs
    return next((one for one in needs if importlib.util.find_spec(one) is None), None)


def prepare_opponent(name: str, title: str, net: nn.Module, images: Tensor) -> list[Ready]:
    """The candidate of an opponent, in a worker.

    Args:
        name: of `OPPONENTS`.
        title: shown in tables.
        net: static, with folded norm layers, of the type of the images.
        images: (N, 3, H, W), channels-last.
    """
    net(images)
    macs = float(net.decisions.macs.mean())
    run = OPPONENTS[name].prepare(net, images)
    run()
    return [Ready(Candidate(title, run), macs)]
