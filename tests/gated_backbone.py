"""A backbone of somebody's own: each image chooses channel groups of the residual branches."""

from dataclasses import dataclass

from torch import Tensor, nn, zeros

import dynbackbones
from dynbackbones.backbones import decisions, resnet
from dynbackbones.backbones.blockdrop.selection import BlockSelection
from dynbackbones.layers import residual, stem


@dataclass(frozen=True)
class GatedDecisions(decisions.Decisions):
    gates: Tensor  # (N, 8 blocks * groups) bool
    rate_name = "gate_rate"
    rate = property(lambda self: self.gates.float().mean(dim=1))

    def blocks(self):
        return decisions.Blocks(self.gates, tuple(f"gate{k}" for k in range(self.gates.shape[1])))

    def choices(self):
        return self.gates


class GatedStage(nn.Sequential):
    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        for block, gate in zip(self, gates[..., None, None].unbind(1), strict=True):
            x = block.relu(residual.mask_groups(block.residual(x), gate) + block.shortcut(x))
        return x


class GatedResNet(dynbackbones.DynamicBackbone):
    lr_factors = {"gate": 2.0}
    make_selection = staticmethod(BlockSelection)

    def __init__(self, *, in_channels: int = 3, groups: int = 4, target_rate: float = 0.5) -> None:
        super().__init__(in_channels)
        self.groups, self.target_rate, norm = groups, target_rate, nn.BatchNorm2d
        stem.add_imagenet_stem(self, in_channels, norm)
        options = {"output_stride": 32, "norm": norm, "stride_in_1x1": False, "stage": GatedStage}
        self.feature_info = resnet.add_stages(self, 18, **options)
        self.gate = nn.Linear(64, 8 * groups)
        self.register_buffer("threshold", zeros(()))

    def forward(self, images, image_sizes=None):
        batch, x = self._check_inputs(images, image_sizes), stem.run_stem(self, images)
        soft = self.gate(x.mean(dim=(2, 3))).sigmoid()
        hard = soft > self.threshold.sigmoid()
        if self.selection is not None:
            hard = self.selection.policy(len(x), [self.groups] * 8).to(x.device)
        gates = hard.float() + (soft - soft.detach())
        self.decisions = GatedDecisions(batch, self._count_macs, hard)
        if self.records_auxiliary:
            target = 1 - (1 - self.target_rate) * self.progress
            self._keep_auxiliary({"loss_gate_rate": (gates.mean() - target) ** 2})
        features = {}
        for name, gate in zip(self.feature_info, gates.chunk(4, dim=1), strict=True):
            stage = self.get_submodule(self.feature_info[name].module)
            x = features[name] = stage(x, gate.unflatten(1, (2, self.groups)))
        return features

    def macs(self, height, width, share=1.0):
        total, size = stem.stem_macs(self, height, width), resnet.feature_size((height, width), 4)
        for info in self.feature_info.values():
            for block in self.get_submodule(info.module):
                total += block.shortcut_macs(*size) + share * block.residual_macs(*size)
                size = resnet.feature_size((height, width), info.stride)
        return total + self.gate.weight.numel()

    def thresholds(self):
        return [self.threshold]

    def own_parameters(self):
        return {"gate": list(self.gate.parameters())}


dynbackbones.register_backbone("gated_resnet18", GatedResNet, node="GATED")
