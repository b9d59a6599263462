"""The losses of the papers, against formulas in NumPy; their gradients, dtypes and refusals."""

import sys
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gfx
from gfx.errors import InputError
from gfx.train import losses as L

TAPS = {"a": (3, 4, 6, 5), "b": (3, 7, 2, 3)}


def features(seed, shapes=TAPS, dtype=torch.float64, grad=False):
    generator = torch.Generator().manual_seed(seed)
    found = {k: torch.randn(v, generator=generator, dtype=torch.float64) for k, v in shapes.items()}
    return {k: v.to(dtype).requires_grad_(grad) for k, v in found.items()}


def image(seed, shape=(2, 3, 12, 13)):
    return features(seed, {"x": shape})["x"]


def arrays(*named):
    return [{k: v.detach().numpy() for k, v in each.items()} for each in named]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gram(x):
    flat = x.reshape(*x.shape[:2], -1)
    return np.einsum("nip,njp->nij", flat, flat)


def mse(s, t):
    return ((s - t) ** 2).mean()


def rmse(s, t):
    return mse(s, t) ** 0.5


def texture(s, t):
    return np.mean([np.sqrt(g.sum()) for g in (gram(s) - gram(t)) ** 2]) / s.shape[1] ** 2


def texture_of_the_code(s, t):
    return rmse(gram(s) / s[0].size, gram(t) / t[0].size)


def pooled(s, t):
    return mse(s.mean((2, 3)), t.mean((2, 3)))


def attention(s, t):
    maps = []
    for x in (s, t):
        power = (x**2).sum(1).reshape(len(x), -1)
        maps.append(power / np.sqrt((power**2).sum(1, keepdims=True)))
    return ((maps[0] - maps[1]) ** 2).sum(1).mean()


def alignment(s, t):
    kernels = [np.array([[(a * b).sum() for b in x] for a in x]) for x in (s, t)]
    norms = [np.sqrt((k**2).sum()) for k in kernels]
    return -(kernels[0] * kernels[1]).sum() / norms[0] / norms[1]


BY_TAP = [
    (L.FeatureLoss(), mse),
    (L.ContentLoss(), rmse),
    (L.TextureLoss(), texture),
    (L.TextureLoss(scale="code"), texture_of_the_code),
    (L.ChannelLoss(), pooled),
    (L.AttentionLoss(), attention),
    (L.KernelAlignmentLoss(), alignment),
]
by_tap = pytest.mark.parametrize(("loss", "formula"), BY_TAP, ids=lambda x: getattr(x, "name", ""))


@by_tap
def test_a_loss_of_taps_is_its_formula_summed_over_the_taps(loss, formula):
    student, teacher = features(0), features(1)
    ours, theirs = arrays(student, teacher)
    wanted = sum(formula(ours[tap], theirs[tap]) for tap in TAPS)
    assert loss(student, teacher).item() == pytest.approx(wanted, rel=1e-12)
    listed = loss(list(student.values()), list(teacher.values()))
    assert listed.item() == pytest.approx(wanted, rel=1e-12)
    assert loss(student["a"], teacher["a"]).item() == pytest.approx(
        formula(ours["a"], theirs["a"]), rel=1e-12
    )


@by_tap
def test_gradients_go_to_the_student_and_are_those_of_the_value(loss, formula):
    shapes = {"a": (2, 2, 3, 2), "b": (2, 3, 2, 1)}
    student, teacher = features(0, shapes, grad=True), features(1, shapes, grad=True)

    def value(*given):
        return loss(dict(zip(student, given, strict=True)), teacher)

    assert torch.autograd.gradcheck(value, tuple(student.values()))
    value(*student.values()).backward()
    assert all(each.grad is not None for each in student.values())
    assert all(each.grad is None for each in teacher.values())


@by_tap
def test_a_student_that_is_a_copy_has_a_finite_gradient(loss, formula):
    teacher = features(0)
    student = {k: v.clone().requires_grad_() for k, v in teacher.items()}
    loss(student, teacher).backward()
    gap = 0 if loss.name != "KernelAlignmentLoss" else -2
    assert loss(student, teacher).item() == pytest.approx(gap, abs=1e-12)
    for each in student.values():
        assert float(each.grad.abs().max()) < 1e-7


@by_tap
def test_features_of_zeros_have_a_finite_gradient(loss, formula):
    teacher = features(0)
    student = {k: torch.zeros_like(v).requires_grad_() for k, v in teacher.items()}
    loss(student, teacher).backward()
    assert all(bool(torch.isfinite(each.grad).all()) for each in student.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@by_tap
def test_16_bit_features_are_computed_in_32(loss, formula, dtype):
    student, teacher = features(0, dtype=dtype), features(1, dtype=dtype)
    found = loss(student, teacher)
    assert found.dtype == torch.float32
    exact = [{k: v.double() for k, v in each.items()} for each in (student, teacher)]
    assert found.item() == pytest.approx(float(loss(*exact)), rel=1e-5)
    large = {k: 200 * v for k, v in student.items()}  # squares beyond what float16 holds
    assert bool(torch.isfinite(loss(large, teacher)))


@by_tap
def test_autocast_changes_nothing(loss, formula):
    student, teacher = features(0, dtype=torch.float32), features(1, dtype=torch.float32)
    plain = loss(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(student, teacher), plain)


def test_weights_count_taps():
    student, teacher = features(0), features(1)
    ours, theirs = arrays(student, teacher)
    found = L.FeatureLoss(weights={"b": 3.0})(student, teacher)
    assert found.item() == pytest.approx(
        mse(ours["a"], theirs["a"]) + 3 * mse(ours["b"], theirs["b"])
    )
    with pytest.raises(
        InputError, match=r"^FeatureLoss: weights has 'bb', no tap; did you mean 'b'"
    ):
        L.FeatureLoss(weights={"bb": 3.0})(student, teacher)


def test_adapters_bring_the_student_to_the_width_of_its_teacher_and_learn():
    student, teacher = features(0), features(1, {"a": (3, 9, 6, 5), "b": (3, 7, 2, 3)})
    adapters = nn.ModuleDict({"a": nn.Conv2d(4, 9, 1), "b": nn.Identity()}).double()
    loss = L.FeatureLoss(adapters)
    assert [name for name, _ in loss.named_parameters()] == ["adapters.a.weight", "adapters.a.bias"]
    weight, bias = (p.detach().numpy() for p in adapters["a"].parameters())
    ours, theirs = arrays(student, teacher)
    mapped = np.einsum("oi,nihw->nohw", weight[..., 0, 0], ours["a"]) + bias[:, None, None]
    wanted = mse(mapped, theirs["a"]) + mse(ours["b"], theirs["b"])
    value = loss(student, teacher)
    assert value.item() == pytest.approx(wanted, rel=1e-12)
    value.backward()
    assert float(adapters["a"].weight.grad.abs().max()) > 0


def test_adapters_of_the_teacher_learn_and_the_teacher_does_not():
    student, teacher = features(0, grad=True), features(1, {"a": (3, 9, 6, 5)}, grad=True)
    adapters = nn.ModuleDict({"a": nn.Conv2d(9, 4, 1)}).double()
    loss = L.FeatureLoss(adapters, adapts="teacher")
    loss({"a": student["a"]}, teacher).backward()
    assert float(adapters["a"].weight.grad.abs().max()) > 0
    assert student["a"].grad is not None
    assert teacher["a"].grad is None


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_the_adapters_of_gfx_fit_on_either_side(side):
    x = torch.rand(2, 3, 8, 8)
    recipe = {"passes": [{"distill_taps": {"layers": ["0", "2"]}}]}

    def made(width):
        layers = nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, 3, 1), nn.Tanh()
        return gfx.apply(recipe, nn.Sequential(*layers), x)

    student, teacher = made(4), made(6)
    direction = "student_to_teacher" if side == "student" else "teacher_to_student"
    adapters = gfx.adapters(student, teacher, x, direction=direction)
    loss = L.FeatureLoss(adapters, adapts=side)
    (_, ours), (_, theirs) = gfx.tapped(student)(x), gfx.tapped(teacher)(x)
    loss(ours, theirs).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in adapters.parameters())
    assert student.get_submodule("0").weight.grad is not None
    assert teacher.get_submodule("0").weight.grad is None


def test_adapters_take_features_of_16_bits():
    student, teacher = features(0, dtype=torch.bfloat16), features(1, dtype=torch.bfloat16)
    loss = L.FeatureLoss(nn.ModuleDict({"a": nn.Conv2d(4, 4, 1)}))
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(student, teacher).item() == pytest.approx(value.item(), rel=0.05)


def test_fsp_compares_the_products_of_neighbouring_taps():
    shapes = {"a": (3, 4, 4, 6), "b": (3, 7, 2, 2), "c": (3, 2, 2, 2)}
    student, teacher = features(0, shapes), features(1, shapes)
    ours, theirs = arrays(student, teacher)

    def gap(x, y, maximum):
        flows = []
        for each in (ours, theirs):
            first = each[x].reshape(3, 4, 2, 2, 2, 3).max((3, 5)) if maximum else each[x]
            flows.append(np.einsum("nihw,njhw->nij", first, each[y]) / 4)
        return ((flows[0] - flows[1]) ** 2).sum((1, 2)).mean()

    wanted = gap("a", "b", True) + gap("b", "c", False)
    assert L.FSPLoss()(student, teacher).item() == pytest.approx(wanted, rel=1e-12)
    found = L.FSPLoss(flows=[("a", "c")], weights={"a": 2.0})(student, teacher)
    assert found.item() == pytest.approx(2 * gap("a", "c", True), rel=1e-12)


def test_fsp_has_the_gradient_of_its_value():
    shapes = {"a": (2, 2, 2, 4), "b": (2, 3, 2, 2)}
    student, teacher = features(0, shapes, grad=True), features(1, shapes)

    def value(*given):
        return L.FSPLoss()(list(given), list(teacher.values()))

    assert torch.autograd.gradcheck(value, tuple(student.values()))


def test_attention_counts_channels_by_the_scales_of_the_class():
    student, teacher = features(0, {"a": (3, 4, 2, 2)}), features(1, {"a": (3, 6, 2, 2)})
    scales = {"a": torch.rand(3, 4, dtype=torch.float64)}, {"a": torch.rand(6, dtype=torch.float64)}
    found = L.AttentionLoss()(student, teacher, student_scales=scales[0], teacher_scales=scales[1])
    ours, theirs = arrays(student, teacher)
    weighted = [
        ours["a"] * np.sqrt(scales[0]["a"].numpy())[:, :, None, None],
        theirs["a"] * np.sqrt(scales[1]["a"].numpy())[:, None, None],
    ]
    assert found.item() == pytest.approx(attention(*weighted), rel=1e-12)
    with pytest.raises(InputError, match="the scales of the feature 'a' are 5; give 4, or 3x4 by"):
        L.AttentionLoss()(student, teacher, student_scales={"a": torch.ones(5)})


def test_alignment_does_not_depend_on_the_size_of_the_numbers():
    student, teacher = features(0), features(1)
    found = L.KernelAlignmentLoss()(student, teacher)
    scaled = L.KernelAlignmentLoss()({k: 1e4 * v for k, v in student.items()}, teacher)
    assert found.item() == pytest.approx(float(scaled), rel=1e-12)


def test_alignment_is_refused_where_it_is_one_whatever_the_features():
    one = features(0, {"a": (1, 4, 2, 2)})
    with pytest.raises(InputError, match=r"'a' is of a batch of 1, where the alignment is 1 whate"):
        L.KernelAlignmentLoss()(one, features(1, {"a": (1, 4, 2, 2)}))


GENERATOR = {
    "hinge": lambda f: -f.mean(),
    "lsgan": lambda f: ((f - 1) ** 2).mean() / 2,
    "vanilla": lambda f: -np.log(sigmoid(f)).mean(),
}
DISCRIMINATOR = {
    "hinge": lambda r, f: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
    "lsgan": lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
    "vanilla": lambda r, f: -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean(),
}


@pytest.mark.parametrize("kind", GENERATOR)
def test_the_game_is_its_formula_on_one_scale_and_on_several(kind):
    generator, discriminator = L.GeneratorLoss(kind), L.DiscriminatorLoss(kind)
    reals, fakes = (features(seed, {"a": (2, 1, 3, 3), "b": (2, 1, 2, 2)}) for seed in (0, 1))
    (r, f) = arrays(reals, fakes)
    assert generator(fakes["a"]).item() == pytest.approx(GENERATOR[kind](f["a"]))
    several = [fakes["a"], [torch.zeros(1), fakes["b"]]]  # of layers' outputs the last
    wanted = (GENERATOR[kind](f["a"]) + GENERATOR[kind](f["b"])) / 2
    assert generator(several).item() == pytest.approx(wanted)
    found = discriminator(list(reals.values()), several)
    wanted = sum(DISCRIMINATOR[kind](r[k], f[k]) for k in "ab") / 2
    assert found.item() == pytest.approx(wanted)


@pytest.mark.parametrize("kind", GENERATOR)
def test_the_game_has_the_gradient_of_its_value(kind):
    real, fake = image(0, (3, 2)).requires_grad_(), image(1, (3, 2)).requires_grad_()
    assert torch.autograd.gradcheck(L.GeneratorLoss(kind), (fake,))
    assert torch.autograd.gradcheck(L.DiscriminatorLoss(kind), (real, fake))


def test_saturated_scores_of_16_bits_stay_finite():
    scores = torch.tensor([-30000.0, 30000.0], dtype=torch.float16)
    for kind in GENERATOR:
        assert bool(torch.isfinite(L.DiscriminatorLoss(kind)(scores, scores)))


def test_images_are_compared_as_the_formulas_say():
    a, b = image(0), image(1)
    x, y = a.numpy(), b.numpy()
    assert L.ReconstructionLoss()(a, b).item() == pytest.approx(np.abs(x - y).mean())
    assert L.ReconstructionLoss(paired=False)(a, b).item() == pytest.approx(np.abs(x - y).mean())
    assert L.OutputLoss()(a, b).item() == pytest.approx(mse(x, y))
    assert L.OutputLoss("l1")(a, b).item() == pytest.approx(np.abs(x - y).mean())
    steps = np.abs(np.diff(x, axis=2)).sum() + np.abs(np.diff(x, axis=3)).sum()
    assert L.TotalVariationLoss()(a).item() == pytest.approx(steps)
    assert L.TotalVariationLoss("mean")(a).item() == pytest.approx(steps / 2)


def test_ssim_is_that_of_wang():
    a, b = image(0), image(0) + 0.3 * image(1)

    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def blurred(x):
        padded = np.pad(x, ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect")
        views = np.lib.stride_tricks.sliding_window_view(padded, (11, 11), axis=(2, 3))
        return np.einsum("nchwij,ij->nchw", views, window)

    x, y = a.numpy(), b.numpy()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mx, my = blurred(x), blurred(y)
    vx, vy, cov = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
    ssim = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert L.SSIMLoss()(a, b).item() == pytest.approx(1 - ssim.mean(), rel=1e-6)


IMAGES = [L.ReconstructionLoss(), L.OutputLoss(), L.OutputLoss("l1"), L.SSIMLoss()]


@pytest.mark.parametrize("loss", IMAGES, ids=lambda x: repr(x))
def test_images_get_gradients_and_what_they_are_compared_with_none(loss):
    ours, theirs = (image(seed, (1, 1, 11, 11)).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda x: loss(x, theirs), (ours,))
    loss(ours, theirs).backward()
    assert theirs.grad is None
    half = loss(ours.detach().half(), theirs.detach().half())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss(ours, theirs).item(), rel=5e-3)


def test_total_variation_has_the_gradient_of_its_value():
    assert torch.autograd.gradcheck(
        L.TotalVariationLoss(), (image(0, (1, 2, 3, 3)).requires_grad_(),)
    )


def numbers(**terms):
    return {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in terms.items()}


def test_the_self_supervised_loss_is_relative_to_the_original():
    ours, theirs = numbers(gen=3.0, cls=-1.0), numbers(gen=2.0, cls=-4.0)
    d_ours, d_theirs = numbers(dis=0.5, gp=3.0), numbers(dis=2.0, gp=1.0)
    loss = L.SelfSupervisedLoss({"cls": 10.0}, penalty=0.1)
    value = loss(ours, theirs, d_ours, d_theirs)
    assert value.item() == pytest.approx((1 / 2 + 10 * 3 / 4) + 0.5 * (1.5 / 2 + 0.1 * 2 / 1))
    value.backward()
    assert ours["cls"].grad.item() == pytest.approx(10 / 4)
    assert d_ours["gp"].grad.item() == pytest.approx(0.5 * 0.1)
    assert all(each.grad is None for each in (*theirs.values(), *d_theirs.values()))
    assert L.RelativeLoss()(ours["gen"], theirs["gen"]).item() == 0.5


def test_an_original_loss_of_zero_is_compared_absolutely():
    ours, zero = numbers(dis=0.25), numbers(dis=0.0)
    assert L.RelativeLoss()(ours, zero).item() == 0.25
    assert L.RelativeLoss()(zero, zero).item() == 0.0
    (gradient,) = torch.autograd.grad(L.RelativeLoss()(ours, zero), ours["dis"])
    assert float(gradient) == 1.0


def test_relative_terms_have_the_gradient_of_their_value():
    def value(a, b):
        return L.SelfSupervisedLoss()(a, torch.tensor(2.0).double(), b, torch.tensor(-3.0).double())

    given = tuple(torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.5, 2.5))
    assert torch.autograd.gradcheck(value, given)


def test_weighted_terms_are_added_and_given_back():
    terms = numbers(gan=0.5, recon=0.25)
    total, logged = L.Weighted(gan=1.0, recon=100.0)(**terms)
    total.backward()
    assert total.item() == 25.5
    assert float(terms["recon"].grad) == 100.0
    assert {k: float(v) for k, v in logged.items()} == {"gan": 0.5, "recon": 0.25}
    assert not any(v.requires_grad for v in logged.values())


def scores(bad):
    return torch.tensor([0.5, bad])


def spoiled(bad, shape=(2, 3, 12, 12)):
    value = torch.zeros(shape)
    value[1, 2, 3] = bad
    return value


GOOD, ONE = torch.ones(2, 3, 12, 12), torch.tensor(1.0)
NOT_FINITE = [
    (lambda bad: L.GeneratorLoss()(scores(bad)), "the scores of fakes"),
    (lambda bad: L.DiscriminatorLoss("hinge")(scores(bad), scores(0)), "the scores of real images"),
    (lambda bad: L.DiscriminatorLoss("vanilla")(scores(0), [scores(bad)]), "the scores of fakes"),
    (lambda bad: L.DiscriminatorLoss("lsgan")(scores(0), scores(bad)), "the scores of fakes"),
    (
        lambda bad: L.ReconstructionLoss()(spoiled(bad), GOOD),
        "the output",
    ),
    (
        lambda bad: L.ReconstructionLoss()(GOOD, spoiled(bad)),
        "the target",
    ),
    (lambda bad: L.OutputLoss()(GOOD, spoiled(bad)), "the teacher's output"),
    (lambda bad: L.SSIMLoss()(spoiled(bad), GOOD), "the output"),
    (lambda bad: L.TotalVariationLoss()(spoiled(bad)), "the output"),
    (
        lambda bad: L.FSPLoss()([GOOD, spoiled(bad)], [GOOD, GOOD]),
        "the student's feature '1'",
    ),
    (
        lambda bad: L.FSPLoss()([spoiled(bad), GOOD[..., ::2, ::2]], [GOOD, GOOD[..., ::2, ::2]]),
        "the student's feature '0'",  # whose -inf max pooling would drop
    ),
    (
        lambda bad: L.RelativeLoss()({"rec": torch.tensor(bad)}, {"rec": torch.tensor(1.0)}),
        "the compressed generator's rec",
    ),
    (lambda bad: L.RelativeLoss()(torch.tensor(1.0), torch.tensor(bad)), "the original's loss"),
    (
        lambda bad: L.SelfSupervisedLoss()(ONE, ONE, torch.tensor(bad), ONE),
        "the compressed generator's discriminator loss",
    ),
    (
        lambda bad: L.Weighted(recon=0.0)(recon=torch.tensor(bad)),
        "the term 'recon'",
    ),
    *(
        (
            lambda bad, loss=loss: loss({"down": GOOD}, {"down": spoiled(bad)}),
            "the teacher's feature 'down'",
        )
        for loss, _ in BY_TAP
    ),
]


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize(("call", "told"), NOT_FINITE, ids=[told for _, told in NOT_FINITE])
def test_what_is_not_finite_is_named(call, told, bad):
    kind = "NaN" if bad != bad else "inf"
    with pytest.raises(
        InputError, match=rf"^\w+: \d+ {kind} among \d+ values in {told}; look at what made it"
    ):
        call(bad)


def test_what_is_not_finite_passes_unchecked_on_wish():
    loss = L.FeatureLoss()
    loss.checked = False
    assert bool(torch.isnan(loss(spoiled(nan), GOOD)))


def test_numbers_too_large_for_the_result_are_told_from_bad_inputs():
    huge = {"a": torch.full((2, 1, 1), 1e30)}
    with pytest.raises(
        InputError, match=r"the result is inf while its inputs are finite, up to 1e\+30"
    ):
        L.FeatureLoss()(huge, {"a": torch.zeros(2, 1, 1)})


def test_a_broken_adapter_is_told_from_a_broken_student():
    adapter = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        adapter.weight.fill_(nan)
    with pytest.raises(
        InputError, match="864 NaN among 864 values in the student's adapted feature 'a'"
    ):
        L.FeatureLoss(nn.ModuleDict({"a": adapter}))({"a": GOOD}, {"a": GOOD})


A, B = torch.zeros(2, 4, 3, 3), torch.zeros(2, 8, 3, 3)
REFUSED = [
    (
        lambda: L.FeatureLoss()({"a": A}, {"a": B}),
        "'a' is 2x4x3x3 in the student and 2x8x3x3 in the t",
    ),
    (lambda: L.FeatureLoss()({"a": A}, {"a": B}), r"give adapters=gfx\.adapters\(student, teacher"),
    (lambda: L.FeatureLoss()(A, A[:1]), "run both on the same batch"),
    (lambda: L.ContentLoss()(A, A[..., :1]), "tap layers of one size: positions are 3x3 and 3x1"),
    (lambda: L.TextureLoss()(A, B), "give adapters="),
    (lambda: L.TextureLoss(scale="gcc"), "TextureLoss: scale='gcc'; give 'paper' or 'code'"),
    (lambda: L.ChannelLoss()(A, B), "give adapters="),
    (lambda: L.AttentionLoss()(A, A[..., :1]), "batch and positions must be the same"),
    (lambda: L.KernelAlignmentLoss()(A, A[:1]), "run both on the same batch"),
    (lambda: L.FSPLoss()(A, A), "a flow is between two taps, and there is one; tap more"),
    (lambda: L.FSPLoss()([A, A], [A, B]), "'1' is 2x4x3x3 in the student and 2x8x3x3"),
    (lambda: L.FSPLoss(flows=[("0", "2")])([A, A], [A, A]), "flows has '2', no tap"),
    (
        lambda: L.FeatureLoss()({"up_1": A}, {"up_2": A}),
        "student has a tap 'up_1' and the teacher ha",
    ),
    (
        lambda: L.FeatureLoss()({"up_1": A}, {"up_1": A, "up_2": A}),
        "has a tap 'up_2' and the student",
    ),
    (lambda: L.FeatureLoss()({}, {}), "the student has no features"),
    (
        lambda: L.FeatureLoss()({"a": 3}, {"a": A}),
        "the student's feature 'a' is a int; give a tensor",
    ),
    (
        lambda: L.FeatureLoss()(A.byte(), A),
        r"the student's feature is of torch\.uint8; give floating",
    ),
    (lambda: L.FeatureLoss()(A[0, 0, 0], A[0, 0, 0]), r"the feature is 3; features are \(N, C"),
    (
        lambda: L.FeatureLoss(nn.ModuleDict({"a": nn.Conv2d(5, 8, 1)}))({"a": A}, {"a": B}),
        r"the adapter of the feature 'a', Conv2d\(5, 8.*, does not take the student's 2x4x3x3",
    ),
    (
        lambda: L.FeatureLoss(nn.ModuleDict({"b": nn.Conv2d(5, 8, 1)}))({"a": A}, {"a": A}),
        "adapters has 'b', no tap; there are a",
    ),
    (
        lambda: L.FeatureLoss()(A, A.to("meta")),
        "the feature is on cpu in the student and on meta in",
    ),
    (lambda: L.OutputLoss()(A, A.to("meta")), "the image is on cpu in the student and on meta in"),
    (
        lambda: L.RelativeLoss()(ONE, ONE.to("meta")),
        "the loss is on cpu in the student and on meta",
    ),
    (lambda: L.FeatureLoss(weights={"a": nan}), "the weight of a is nan; give a finite number"),
    (lambda: L.SelfSupervisedLoss(lam=inf), "the setting lam is inf; give a finite number"),
    (lambda: L.Weighted(gan="1"), "Weighted: the weight of gan is '1'; give a finite number"),
    (lambda: L.FeatureLoss(adapts="both"), "adapts='both'; give 'student' or 'teacher'"),
    (lambda: L.GeneratorLoss("hinges"), "there is no kind 'hinges'; did you mean 'hinge'?"),
    (lambda: L.GeneratorLoss()([]), "GeneratorLoss: the scores of fakes are empty"),
    (lambda: L.GeneratorLoss()(torch.ones(2).long()), "the scores of fakes are of torch.int64"),
    (
        lambda: L.DiscriminatorLoss()([A, A], [A]),
        "there are 2 scales of scores of real images and 1",
    ),
    (lambda: L.ReconstructionLoss()(A, B), "the output is 2x4x3x3 and the target 2x8x3x3"),
    (lambda: L.ReconstructionLoss(False)(A, B), "and the teacher's output 2x8x3x3"),
    (lambda: L.OutputLoss("l2"), "there is no kind 'l2'; give 'mse' or 'l1'"),
    (
        lambda: L.SSIMLoss()(A, A),
        "images of at least 11 pixels are needed, and the output is 2x4x3x3",
    ),
    (lambda: L.SSIMLoss(0), "data_range=0; images from -1 to 1 have 2"),
    (lambda: L.TotalVariationLoss()(A[0]), r"the output is 4x3x3; give images \(N, C, H, W\)"),
    (lambda: L.RelativeLoss()(A, A), "the compressed generator's loss is 2x4x3x3; give one"),
    (
        lambda: L.RelativeLoss()(numbers(gen=1.0), numbers(cls=1.0)),
        "original generator has no term 'g",
    ),
    (lambda: L.RelativeLoss({"x": 1})(A.sum(), A.sum()), "weights has 'x', no term"),
    (
        lambda: L.SelfSupervisedLoss()(A.sum(), A.sum(), A.sum()),
        "discriminator_original is missing",
    ),
    (
        lambda: L.Weighted(gan=1)(gans=A.sum()),
        "Weighted: 'gans' has no weight; did you mean 'gan'?",
    ),
    (lambda: L.Weighted(gan=1, rec=1)(gan=A.sum()), "Weighted: the term 'rec' is missing"),
    (lambda: L.Weighted(gan=1)(gan=A), "Weighted: the term 'gan' is 2x4x3x3; give one number"),
]


@pytest.mark.parametrize(("call", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_what_cannot_be_compared_is_refused(call, told):
    with pytest.raises(InputError, match=told):
        call()


@pytest.mark.parametrize(
    "call", [lambda: L.SSIMLoss()(GOOD, GOOD), lambda: L.TotalVariationLoss()(GOOD)]
)
def test_a_missing_torchmetrics_is_told_with_the_extra(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional", None)
    with pytest.raises(InputError, match=r"pip install 'gfx-compiler\[metrics\]'"):
        call()


def test_a_name_of_ones_own_is_in_the_error():
    with pytest.raises(InputError, match=r"^content of D: the feature is 2x4x3x3"):
        L.ContentLoss(name="content of D")(A, B)


def test_losses_compile():
    loss = L.FeatureLoss(nn.ModuleDict({"a": nn.Conv2d(3, 3, 1)}))
    loss.checked = False
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert compiled({"a": GOOD}, {"a": GOOD}).item() == pytest.approx(
        loss({"a": GOOD}, {"a": GOOD}).item()
    )


def test_every_loss_is_in_the_table_of_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    table = text[text.index("## The losses") : text.index("## On real data")]
    missing = {name for name in L.__all__ if f"`{name}`" not in table}
    assert missing == {"Loss", "TapLoss"}  # what they are made of


def test_the_losses_are_reached_from_the_facade_and_say_where_they_are_from():
    sys.modules.pop("gfx.tune", None)
    vars(gfx).pop("tune", None)  # as if nobody had asked for it yet
    with pytest.warns(DeprecationWarning, match=r"gfx\.tune is called gfx\.train now"):
        assert gfx.tune.losses is L
    for name in L.__all__:
        text = getattr(L, name).__doc__
        assert name in ("Loss", "TapLoss", "Weighted") or "Source: " in text
        assert name in ("Loss", "TapLoss") or ">>> " in text
