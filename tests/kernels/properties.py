"""What must hold of the kernels, wherever they run: on a GPU, or under Triton's interpreter."""

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import dynbackbones
from dynbackbones.kernels.blocks import add_residual_
from dynbackbones.kernels.cells import SelectedCells
from dynbackbones.layers.residual import BasicBlock, Bottleneck, ResidualBlock

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}

BLOCKS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([Bottleneck, BasicBlock]),
        # Fewer than a tile has, as many, what divides nothing, too many for one program.
        "width, groups": st.sampled_from([(4, 4), (16, 2), (24, 1), (32, 2), (64, 1), (136, 1)]),
        "dilation": st.sampled_from([1, 2]),
        "final_relu": st.booleans(),
        "images": st.integers(1, 2),
        "height": st.integers(1, 11),
        "width_of_map": st.integers(1, 13),
        "seed": st.integers(0, 2**20),
    }
)
MASKS = st.fixed_dictionaries(
    {"cell": st.sampled_from([1, 2, 4, 7]), "rate": st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])}
)


def relative_error(result: Tensor, expected: Tensor) -> float:
    """||result - expected|| / ||expected||, in double precision; NaN stays NaN."""
    result, expected = result.double().cpu(), expected.double().cpu()
    return float((result - expected).norm() / expected.norm().clamp(min=1e-6))


def spread_statistics(module: nn.Module) -> None:
    """Gives norm layers statistics and factors as trained ones have, instead of 0 and 1."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)


def made(drawn: dict, dtype: torch.dtype, device: str, **more) -> tuple[ResidualBlock, Tensor]:
    """A block with random weights that `dtype` can hold, and an input that is not negative."""
    torch.manual_seed(drawn["seed"])
    width, groups = drawn["width, groups"]
    groups = more.pop("groups", groups)
    channels = width * groups * drawn["kind"].expansion
    block = drawn["kind"](channels, channels, dilation=drawn["dilation"], groups=groups, **more)
    spread_statistics(block)
    shape = drawn["images"], channels, drawn["height"], drawn["width_of_map"]
    x = torch.rand(shape).to(memory_format=torch.channels_last)
    return block.eval().to(device, dtype), x.to(device, dtype)


@torch.no_grad()
def check_masked_block(drawn: dict, mask: dict, dtype: torch.dtype, device: str) -> None:
    """Selected cells get what the masked block gives them; the others are not touched."""
    block, x = made(drawn, dtype, device, final_relu=drawn["final_relu"])
    cell, (height, width) = mask["cell"], x.shape[2:]
    shape = len(x), 1, block.groups, -(-height // cell), -(-width // cell)
    masks = torch.rand(shape) < mask["rate"]
    (cells,) = SelectedCells.from_masks(masks.to(device), cell)
    pixels = masks[:, 0].repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    pixels = pixels[..., :height, :width]
    assert torch.equal(cells.pixels(height, width).cpu(), pixels)

    expected = block.cpu().float()(x.cpu().float(), pixels)
    out = x.clone()
    add_residual_(out, block.to(device, dtype), out, cells)
    assert relative_error(out, expected) < TOLERANCES[dtype], (drawn, mask)
    apart = pixels.unsqueeze(2).expand(-1, -1, x.shape[1] // block.groups, -1, -1)
    apart = ~apart.reshape(x.shape)
    assert torch.equal(out.cpu()[apart], x.cpu()[apart])


@torch.no_grad()
def check_whole_images(drawn: dict, stride: int, early: bool, dtype, device: str) -> None:
    """Kept images get what the block gives them, at any stride; the others their shortcut."""
    more = {"stride_in_1x1": early, "stride": stride}
    block, x = made(drawn, dtype, device, groups=1, **more)
    keep = torch.rand(len(x), 1) < 0.5
    shortcut = block.shortcut(x).contiguous(memory_format=torch.channels_last)
    out = shortcut.clone()
    (cells,) = SelectedCells.from_images(keep.to(device), *out.shape[2:])
    (source,) = SelectedCells.from_images(keep.to(device), *x.shape[2:])
    add_residual_(out, block, x, cells, source)
    expected = block.cpu().float()(x.cpu().float())
    expected = torch.where(keep[:, :, None, None], expected, shortcut.cpu().float())
    assert relative_error(out, expected) < TOLERANCES[dtype], (drawn, stride, early)


@torch.no_grad()
def check_network(name: str, device: str, size: tuple[int, int], **options) -> None:
    """A whole network is the same with and without kernels, also compiled as one graph."""
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(name, **options).eval()
    spread_statistics(net)
    net, images = net.to(device), torch.randn(2, 3, *size, device=device)
    sizes = [size, (size[0] - 9, size[1] - 20)]
    net.execution = "masked"
    with net.select("random", rate=0.5):
        expected = net(images, image_sizes=sizes)
        choices = net.decisions.choices()
    net.execution = "sparse"
    with net.select(choices):
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        for run in (net, compiled):
            result = run(images, image_sizes=sizes)
            for feature, value in expected.items():
                assert relative_error(result[feature], value) < 1e-5, (name, feature)
