"""Weights that tests of checkpoints make."""

import re

import torch

import dynbackbones

CLASSES = 5


def weights(name, classifier=True, **options):
    """Weights of a network and a classifier that no initialisation gives; two times the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = dynbackbones.build_backbone(name, **options)
        state = {}
        for key, value in net.state_dict().items():
            if key.endswith("num_batches_tracked"):
                value = torch.tensor(7)
            elif value.ndim == 1:
                value = torch.rand(value.shape) + 0.5
            state[key] = value
        channels = list(net.feature_info.values())[-1].channels
        head = {"fc.weight": torch.randn(CLASSES, channels), "fc.bias": torch.randn(CLASSES)}
    return {**state, **head} if classifier else state


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def published(state, parts=("agent", "resnet")):
    """A checkpoint as the code published with BlockDrop writes it."""
    found = {part: {} for part in parts}
    for key, value in state.items():
        part, name = "resnet", key
        if key.startswith("policy."):
            part, name = "agent", key.removeprefix("policy.")
        name = re.sub(r"layer(\d)\.0\.downsample", lambda m: f"ds.{int(m[1]) - 1}", name)
        name = re.sub(r"layer(\d)", lambda m: f"blocks.{int(m[1]) - 1}", name)
        if part == "agent":
            name = name.replace("fc.", "logit.") if "fc." in name else f"features.{name}"
        if name != "features.threshold" and part in found:
            found[part][name] = value
    if "agent" in found:
        found["agent"]["vnet.weight"] = torch.zeros(1, 64)
    return {**found, "epoch": 3, "reward": 0.5, "acc": 0.9}
