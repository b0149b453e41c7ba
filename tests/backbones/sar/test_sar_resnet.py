import copy

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dynbackbones
from dynbackbones.layers import sparse_forward
from tests.backbones.sar.executions import assert_same, assert_sparse_equals_masked, trained_like
from tests.messages import naming


def build(depth=18, **options):
    torch.manual_seed(0)
    return trained_like(dynbackbones.build_backbone(f"sar_resnet{depth}", **options)).eval()


@settings(max_examples=20, deadline=None)
@given(
    depth=st.sampled_from([18, 50]),
    images=st.integers(1, 3),
    height=st.integers(33, 200),
    width=st.integers(33, 200),
    groups=st.sampled_from([1, 2, 4]),
    base_scale=st.sampled_from([2, 4]),
    alpha_beta=st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    output_stride=st.sampled_from([32, 32, 16, 8]),
    grid_size=st.sampled_from([None, None, 5]),
    kind=st.sampled_from(["all", "none", "center", "uniform", "random"]),
    rate=st.floats(0, 1),
    seed=st.integers(0, 1000),
    padded=st.booleans(),
)
def test_sparse_equals_masked(
    depth, images, height, width, groups, base_scale, alpha_beta, output_stride, grid_size,
    kind, rate, seed, padded,
):  # fmt: skip
    net = build(
        depth, groups=groups, base_scale=base_scale, alpha=alpha_beta[0], beta=alpha_beta[1],
        output_stride=output_stride, grid_size=grid_size,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(images, 3, height, width, generator=generator)
    sizes = [(height - 7 * i, width - 5 * i) for i in range(images)] if padded else None
    with net.select(kind, rate=rate, seed=seed):
        assert_sparse_equals_masked(net, batch, sizes)


@pytest.mark.parametrize("depth", [18, 50])
def test_sparse_equals_masked_with_learned_decisions(depth):
    net = build(depth)
    images = torch.randn(2, 3, 97, 131)
    rate = assert_sparse_equals_masked(net, images).activation_rate
    assert rate.min() > 0 and rate.max() < 1, "the masks must be neither empty nor full"


@pytest.mark.parametrize("depth", [18, 50])
def test_all_selected_equals_a_dense_two_branch_network(depth):
    net = build(depth, groups=2)
    images = torch.randn(1, 3, 70, 50)
    for execution in ("masked", "sparse"):
        net.execution = execution
        with torch.no_grad(), net.select("all"):
            features = net(images)
            x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
            for name, stage in net.stages().items():
                base, refined = stage.base_pool(x), x
                for block in stage.base:
                    base = block(base)
                for block in stage.refinement:
                    refined = block(refined)
                fused = stage.fusion(base, refined, stage.grid(x.shape[-2:]))
                x = stage.transition(fused)
                expected = x if name == "res4" else fused
                assert_same({name: features[name]}, {name: expected})
            assert_same({"res5": features["res5"]}, {"res5": net.layer4(x)})


@pytest.mark.parametrize(("groups", "millions"), [(2, 25.02), (4, 23.43)])
def test_parameters_of_the_paper(groups, millions):
    net = dynbackbones.build_backbone("sar_resnet50", groups=groups)
    head = 2048 * 1000 + 1000
    count = sum(p.numel() for p in net.parameters()) + head
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(
    ("options", "rate", "giga"),
    [
        ({"groups": 2, "base_scale": 4, "alpha": 1}, 0.5, 2.55),
        ({"groups": 2, "base_scale": 2, "alpha": 2}, 0.5, 2.40),
        ({"groups": 4, "base_scale": 2, "alpha": 2}, 0.7, 2.22),
        ({"groups": 4, "base_scale": 2, "alpha": 2}, 0.5, 2.12),
        ({"groups": 8, "base_scale": 2, "alpha": 2}, 0.5, 1.99),
    ],
)
def test_macs_of_the_paper(options, rate, giga):
    net = dynbackbones.build_backbone("sar_resnet50", **options)
    head = 2048 * 1000
    macs = net.macs(224, 224, share=rate) + head
    assert macs / 1e9 == pytest.approx(giga, rel=0.015)


def test_what_four_groups_save():
    # Printed: 8.3 % of the plain network's parameters, 48.8 % of its MACs.
    plain = dynbackbones.build_backbone("resnet50")
    net = dynbackbones.build_backbone("sar_resnet50", groups=4)
    head = 2048 * 1000
    counts = [sum(p.numel() for p in n.parameters()) + head + 1000 for n in (net, plain)]
    assert 1 - counts[0] / counts[1] == pytest.approx(0.083, abs=0.0005)
    macs = net.macs(224, 224, share=0.5) + head, plain.macs(224, 224) + head
    assert 1 - macs[0] / macs[1] == pytest.approx(0.488, abs=0.005)


def test_macs_of_figure_5():
    # One group at rate 0.3: 39.7 % under the plain network's 4.10 G.
    net = dynbackbones.build_backbone("sar_resnet50", groups=1)
    macs = net.macs(224, 224, share=0.3) + 2048 * 1000
    assert macs / 1e9 == pytest.approx(2.479, abs=0.0005)
    assert 1 - macs / 4.10e9 == pytest.approx(0.397, abs=0.003)


@pytest.mark.parametrize(
    ("options", "printed"), [({}, 62.63), ({"base_scale": 4, "alpha": 1}, 65.79)]
)
def test_macs_printed_for_detectors_are_those_of_rate_1(options, printed):
    # Table VIII, t 0.5; the plain network's 88.03 G are those of 800 x 1344.
    plain = dynbackbones.build_backbone("resnet50").macs(800, 1344)
    net = dynbackbones.build_backbone("sar_resnet50", **options)
    assert plain / 1e9 == pytest.approx(88.03, rel=0.006)
    assert net.macs(800, 1344, share=1) / 1e9 == pytest.approx(printed, rel=0.012)
    assert net.macs(800, 1344, share=0.5) / 1e9 < 0.83 * printed


def test_sar_resnet34_is_not_what_the_paper_prints():
    # Tables V and VI: 1.87 G, and 21.8 M parameters, which is the plain ResNet-34.
    net, plain = (dynbackbones.build_backbone(name) for name in ("sar_resnet34", "resnet34"))
    head = 512 * 1000
    count, of_plain = (
        (sum(p.numel() for p in n.parameters()) + head + 1000) / 1e6 for n in (net, plain)
    )
    assert (count, of_plain) == pytest.approx((20.35, 21.80), abs=0.005)
    assert (net.macs(224, 224, share=0.5) + head) / 1e9 == pytest.approx(1.832, abs=0.0005)
    # G4 s4 alpha2 at 0.6 is printed as more, 1.99 G, though it computes less.
    small = dynbackbones.build_backbone("sar_resnet34", groups=4, base_scale=4)
    assert small.macs(224, 224, share=0.6) < net.macs(224, 224, share=0.5)


@pytest.mark.parametrize("depth", [18, 50])
def test_macs_are_what_sparse_execution_computes(depth):
    net = build(depth, execution="sparse")
    images = torch.randn(1, 3, 101, 67)
    dynbackbones.calibrate(net, images, target_rate=0.5)
    analysis = FlopCountAnalysis(net, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted = analysis.by_operator()
    # A trace leaves out what nobody reads, such as the selectors of a stage without regions.
    figures = net.decisions.figures()
    rates = [figures[f"activation_rate_res{stage}"].values.item() for stage in (2, 3, 4)]
    assert all(0 < rate < 1 for rate in rates)
    expected = pytest.approx(net.decisions.macs.item(), rel=1e-6)
    assert counted["conv"] + counted["linear"] == expected


@pytest.mark.parametrize("kind", ["all", "none"])
def test_overrides_can_be_traced(kind):
    net = build(execution="sparse", selection=kind)
    analysis = FlopCountAnalysis(net, torch.randn(1, 3, 64, 64))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert analysis.total() > 0


def test_evaluation_is_deterministic_and_training_is_not():
    net = build()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        first, second = net(images), net(images)
    assert all(torch.equal(first[name], second[name]) for name in first)
    net.train()
    net(images)
    net.auxiliary_losses()
    masks = net.decisions.masks["res2"]
    net(images)
    assert not torch.equal(masks, net.decisions.masks["res2"])


def test_gradients_reach_every_selector_from_loss_and_from_features():
    net = build(50).train()
    for source in ("loss", "features"):
        net.zero_grad()
        # Enough regions that never all samples of a block saturate, which have no gradient.
        features = net(torch.randn(2, 3, 128, 128))
        loss = net.auxiliary_losses()["loss_activation_rate"]
        (loss if source == "loss" else features["res5"].square().mean()).backward()
        for parameter in (s.fc.weight for stage in net.stages().values() for s in stage.selectors):
            assert parameter.grad.abs().sum() > 0, source
    assert len(list(net.own_parameters()["selector"])) == 10 * 5


def test_rate_loss_is_equation_10_of_the_sampled_masks():
    net = build(50, loss_weight=0.5, target_rate=0.3).train()
    net.set_progress(1.0)
    net(torch.randn(3, 3, 64, 64))
    blocks = torch.cat([s.block_rates() for s in net.decisions.stages.values()], dim=1)
    expected = 0.5 * (blocks.mean(dim=0) - 0.3).square().mean()
    torch.testing.assert_close(net.auxiliary_losses()["loss_activation_rate"], expected)
    by_mask = [m.float().mean(dim=(2, 3, 4)) for m in net.decisions.masks.values()]
    torch.testing.assert_close(blocks, torch.cat(by_mask, dim=1))


def test_decisions_do_not_depend_on_the_batch():
    net = build(execution="masked")
    small, large = torch.randn(1, 3, 64, 60), torch.randn(1, 3, 96, 128)
    batch = torch.zeros(2, 3, 96, 128)
    batch[0, :, :64, :60] = small[0]
    batch[1] = large[0]
    with torch.no_grad():
        net(small)
        alone = net.decisions
        net(batch, image_sizes=[(64, 60), (96, 128)])
        together = net.decisions
        net(batch)
        unaware = net.decisions
    assert together.activation_rate[0] == pytest.approx(alone.activation_rate.item(), abs=0.1)
    assert together.macs[0] == pytest.approx(alone.macs.item(), rel=0.05)
    assert unaware.macs[0] > 1.5 * alone.macs.item()
    rows, cols = alone.masks["res2"].shape[-2:]
    masks = together.masks["res2"][:1]
    assert not masks[..., rows:, :].any() and not masks[..., cols:].any()


def test_sizes_given_beforehand_hold_for_one_forward():
    net = build()
    images = torch.randn(1, 3, 64, 64)
    net.set_image_sizes([(40, 48)])
    net(images)
    assert net.decisions.image_sizes == [(40, 48)]
    net(images)
    assert net.decisions.image_sizes == [(64, 64)]


def test_feature_info_names_the_module_of_each_feature():
    net = build(50)
    outputs = {}
    for name, info in net.feature_info.items():
        module = net.get_submodule(info.module)
        module.register_forward_hook(lambda m, i, out, name=name: outputs.update({name: out}))
    features = net(torch.randn(1, 3, 64, 64))
    for name, feature in features.items():
        assert feature is outputs[name]


def test_a_change_at_a_feature_module_reaches_everything_after_it():
    net = build()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = net(images)
        net.layer1.fusion.register_forward_hook(lambda m, i, out: out + 1)
        after = net(images)
    assert not torch.allclose(before["res3"], after["res3"])


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_one_checkpoint_fits_every_output_stride(output_stride):
    state = build(50).state_dict()
    net = dynbackbones.build_backbone("sar_resnet50", output_stride=output_stride).eval()
    net.load_state_dict(state, strict=True)
    with torch.no_grad():
        features = net(torch.randn(1, 3, 65, 97))
    for name, info in net.feature_info.items():
        assert features[name].shape == (
            1,
            info.channels,
            -(-65 // info.stride),
            -(-97 // info.stride),
        )
    assert net.feature_info["res5"].stride == output_stride


def test_output_stride_8_doubles_the_cells_of_stage_3():
    assert build(output_stride=8).layer3.cell_size == 14


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_every_depth_trains(depth):
    net = dynbackbones.build_backbone(f"sar_resnet{depth}", groups=2).train()
    features = net(torch.randn(2, 3, 64, 64))
    loss = sum(f.mean() for f in features.values()) + sum(net.auxiliary_losses().values())
    loss.backward()
    missing = [n for n, p in net.named_parameters() if p.grad is None]
    assert not missing


def test_only_bottlenecks_outside_the_refinement_branch_start_at_gamma_0():
    net = dynbackbones.build_backbone("sar_resnet50")
    for stage in net.stages().values():
        assert all((b.bn3.weight == 0).all() for b in (*stage.base, stage.transition))
        assert all((b.bn3.weight == 1).all() for b in stage.refinement)
    assert all((b.bn3.weight == 0).all() for b in net.layer4)
    assert (dynbackbones.build_backbone("sar_resnet18").layer4[0].bn2.weight == 1).all()


def test_freeze():
    net = dynbackbones.build_backbone("sar_resnet18", freeze_at=2).train()
    assert not any(p.requires_grad for p in (*net.conv1.parameters(), *net.layer1.parameters()))
    assert all(p.requires_grad for p in net.layer2.parameters())
    mean = net.layer1.transition.bn1.running_mean.clone()
    net(torch.randn(2, 3, 64, 64))
    assert torch.equal(mean, net.layer1.transition.bn1.running_mean)
    assert not net.layer1.selectors[0].training and net.layer2.selectors[0].training
    loss = net.auxiliary_losses()["loss_activation_rate"]
    loss.backward()


def test_frozen_norm_runs_sparse():
    net = dynbackbones.build_backbone("sar_resnet18", norm="FrozenBN", execution="sparse").eval()
    with net.select("random", rate=0.5):
        sparse = net(torch.ones(1, 3, 64, 64))
        net.execution = "masked"
        assert_same(sparse, net(torch.ones(1, 3, 64, 64)))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_deep_copies_are_independent():
    net = build().train()
    images = torch.randn(2, 3, 64, 64)
    net(images)  # leaves a loss with its graph, which a copy must not take along
    clone = copy.deepcopy(net)
    assert clone.auxiliary_losses() == {}
    assert "loss_activation_rate" in net.auxiliary_losses()
    clone.set_progress(1.0)
    assert net.progress == 0.0
    clone(images)["res5"].sum().backward()
    assert all(p.grad is None for p in net.parameters())


def test_no_graph_tensor_stays_on_the_module():
    net = build().train()
    net(torch.randn(2, 3, 64, 64))
    net.auxiliary_losses()
    held = [v for m in net.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    held += [*net.decisions.masks.values(), net.decisions.macs, net.decisions.activation_rate]
    assert not any(t.requires_grad for t in held)


def test_autocast_trains_and_evaluates():
    net = build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(torch.randn(2, 3, 64, 64))["res5"].float().mean().backward()
        net.eval()
        net.execution = "sparse"
        with torch.no_grad():
            features = net(torch.randn(2, 3, 64, 64))
    assert all(torch.isfinite(f).all() for f in features.values())


def test_figures_have_sampled_and_argmax_rates_of_every_selector():
    net = build().train()
    net(torch.randn(2, 3, 64, 64))
    figures = net.decisions.figures()
    for name in ("activation_rate_res2", "argmax_rate_res4", "activation_rate_res3_block1"):
        assert figures[name].values.shape == (2,)
    assert figures["argmax_rate_res4"].level == "stage"
    assert figures["activation_rate_res3_block1"].level == "block"
    net.eval()
    net(torch.randn(2, 3, 64, 64))
    assert not any("argmax" in name for name in net.decisions.figures())


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 3},
        {"groups": 0},
        {"alpha": 1.5},
        {"beta": 0},
        {"base_scale": 3},
        {"output_stride": 4},
        {"cell_size": (4, 4)},
        {"grid_size": 0},
        {"base": "pooled"},
        {"target_rate": 0},
        {"target_rate": "0.5"},
        {"temperature": (1.0, 0.0)},
        {"temperature": 0.1},
        {"cell_size": 4},
        {"target_schedule": "step"},
        {"loss_reduction": "sum"},
        {"regions_per": "image"},
        {"loss_weight": -1},
        {"norm": "LN"},
        {"freeze_at": 6},
        {"execution": "dense"},
        {"selection": "most"},
    ],
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=naming(**options)):
        dynbackbones.build_backbone("sar_resnet18", **options)


@pytest.mark.parametrize(
    ("images", "sizes", "words"),
    [
        (torch.zeros(3, 64, 64), None, ("images", "(N, 3, H, W)", (3, 64, 64))),
        (torch.zeros(1, 4, 64, 64), None, ("images", "(N, 3, H, W)", (1, 4, 64, 64))),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), None, ("images", torch.uint8)),
        (torch.zeros(0, 3, 64, 64), None, ("images", (0, 3, 64, 64))),
        (torch.zeros(2, 3, 64, 64), [(64, 64)], ("image_sizes", 1, 2)),
        (torch.zeros(1, 3, 64, 64), [(65, 64)], ("image_sizes", (65, 64), "64 x 64")),
    ],
)
def test_wrong_inputs(images, sizes, words):
    with pytest.raises(ValueError, match=naming(*words)):
        build()(images, image_sizes=sizes)


def test_wrong_progress_and_unknown_name():
    with pytest.raises(ValueError, match=naming("fraction", 1.5)):
        build().set_progress(1.5)
    with pytest.raises(ValueError, match=naming("'sar_resnet5'", "'sar_resnet50'")):
        dynbackbones.build_backbone("sar_resnet5")


@pytest.mark.parametrize(
    ("size", "rate", "sparse"), [(64, 0.6, True), (64, 0.7, False), (400, 1.0, True)]
)
def test_auto_goes_by_rate_and_size(monkeypatch, size, rate, sparse):
    calls = []

    def counted(block, *args, **kwargs):
        calls.append(block)
        return sparse_forward(block, *args, **kwargs)

    monkeypatch.setattr("dynbackbones.backbones.sar.stage.sparse_forward", counted)
    net = build()
    with torch.no_grad(), net.select("random", rate=rate):
        net(torch.randn(1, 3, size, size))
    assert (net.layer1.refinement[0] in calls) == sparse


def test_auto_runs_other_norms_masked_and_sparse_refuses_them():
    net = dynbackbones.build_backbone("sar_resnet18", norm=lambda c: nn.GroupNorm(1, c)).eval()
    images = torch.randn(1, 3, 64, 64)
    with net.select("random", rate=0.3):
        net(images)
        net.execution = "sparse"
        with pytest.raises(ValueError, match=naming("GroupNorm", execution="masked")):
            net(images)


def test_training_with_an_override_leaves_no_parameter_without_gradient():
    net = dynbackbones.build_backbone("sar_resnet18", selection="random").train()
    net(torch.randn(2, 3, 64, 64))["res5"].sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]
    assert net.auxiliary_losses() == {}


def test_image_sizes_as_tensor():
    net = build()
    net(torch.randn(2, 3, 64, 64), image_sizes=torch.tensor([[64, 64], [60, 50]]))
    assert net.decisions.image_sizes == [(64, 64), (60, 50)]
    with pytest.raises(ValueError, match=naming("image_sizes", 0, 2)):
        net(torch.randn(2, 3, 64, 64), image_sizes=[])


@pytest.mark.parametrize("branches", ["both", "refinement", "base"])
def test_regions_that_are_not_learned_leave_no_parameter_without_gradient(branches):
    # DDP stops where one has none.
    net = dynbackbones.build_backbone(
        "sar_cifar_resnet20", branches=branches, selection="uniform"
    ).train()
    features = net(torch.randn(2, 3, 32, 32))
    (sum(f.mean() for f in features.values()) + sum(net.auxiliary_losses().values())).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]
