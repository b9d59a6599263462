"""Shows what repair in closed form gives: the error of trained generators at half their MACs.

    python benchmarks/refit_bench.py                      all three generators
    python benchmarks/refit_bench.py --only faces
    python benchmarks/refit_bench.py --train 300          trains the drawings' generator shorter

Nothing is trained but the generators themselves, before. They are

    faces       the DCGAN of gan-face-generate, noise to 64x64 faces
    drawings    a pix2pix ResNet (zoo resnet_9blocks, ngf 16, 6 blocks) that colours outlines of
                OpenMoji, trained here once, in ten minutes, and kept (see benchmarks/trained.py)
    upscaling   the VGG7 of waifu2x, on photographs

The error is ‖output - original's‖ / ‖original's‖ on held-out inputs: other seeds, drawings or
photographs than what gfx looks at. `MACs` is the share that is left, exact; torch-pruning's ratio
is found by bisection. `times less` is torch-pruning's error over the row's.

The recipe that wins:

    recipe: 1
    budget: {macs: 0.5}
    passes:
      - channel_prune: {importance: reconstruction, scope: knapsack}
      - refit: {positions: 100}
"""

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch_pruning
from repairable import SUBJECTS, Subject, drawings
from torch import Tensor, nn

import gfx

BUDGET = 0.5
BATCH = 32
BISECTIONS = 12
TARGET = 3  # times less error than torch-pruning
ROWS: dict[str, list[Any]] = {
    "gfx prune, l1": [{"channel_prune": {}}],
    "gfx prune, taylor": [{"channel_prune": {"importance": "taylor", "scope": "knapsack"}}],
    "gfx prune": [{"channel_prune": {"importance": "reconstruction", "scope": "knapsack"}}],
    "gfx decompose, svd": [{"decompose": {"init": "svd"}}],
    "gfx decompose, data": [{"decompose": {"init": "data"}}],
}
REFIT = {"refit": {"positions": 100}}
REPAIRED = ("gfx prune, l1", "gfx prune", "gfx decompose, data")  # shown with refit, too


def batches(inputs: Tensor) -> list[Tensor]:
    """Cuts inputs into batches."""
    return list(inputs.split(BATCH))


def share(small: nn.Module, subject: Subject) -> float:
    """Returns the share of the MACs that is left."""
    example = (subject.held_out[:1],)
    after, before = (gfx.cost(model, example).macs.exact for model in (small, subject.model))
    return after / before


@torch.no_grad()
def error(small: nn.Module, subject: Subject) -> float:
    """Returns the relative L2 error on the held-out inputs, averaged over batches."""
    found = []
    for x in batches(subject.held_out):
        truth = subject.model(x)
        found.append(float((small(x) - truth).norm() / truth.norm()))
    return sum(found) / len(found)


def peer(subject: Subject, budget: float = BUDGET) -> nn.Module:
    """Prunes with torch-pruning by the L1 norm, at the ratio that comes nearest to the budget."""

    def pruned(ratio: float) -> nn.Module:
        model = copy.deepcopy(subject.model).requires_grad_()  # it traces by gradients
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of parameters outside of layers
            torch_pruning.pruner.MagnitudePruner(
                model,
                (subject.held_out[:1],),
                importance=torch_pruning.importance.MagnitudeImportance(p=1),
                pruning_ratio=ratio,
                ignored_layers=[model.get_submodule(subject.head)],
            ).step()
        return model

    low, high = 0.0, 0.9
    found = []
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        model = pruned(middle)
        left = share(model, subject)
        found.append((abs(left - budget), len(found), model))
        low, high = (middle, high) if left > budget else (low, middle)
    return min(found)[2]


def ours(subject: Subject, passes: list[Any], budget: float = BUDGET) -> nn.Module:
    """Compresses with gfx."""
    recipe = {"recipe": 1, "budget": {"macs": budget}, "passes": passes}
    example = (subject.held_out[:1],)
    return gfx.apply(recipe, subject.model, example, data=batches(subject.seen), verify=False)


def rows() -> dict[str, Callable[[Subject], nn.Module]]:
    """Lists what is compared, by name."""
    found: dict[str, Callable[[Subject], nn.Module]] = {"torch-pruning, l1": peer}
    for name, passes in ROWS.items():
        found[name] = lambda subject, passes=passes: ours(subject, passes)
        if name in REPAIRED:
            repaired = [*passes, REFIT]
            found[f"{name} + refit"] = lambda subject, passes=repaired: ours(subject, passes)
    return found


def compare(name: str, subject: Subject) -> float:
    """Prints the rows of one generator; returns how many times less error the recipe has."""
    errors: dict[str, float] = {}
    for row, compress in rows().items():
        start = time.perf_counter()
        try:
            small = compress(subject)
        except gfx.GfxError as refusal:  # some forms cannot reach the budget on some generators
            print(f"{name:10} {row:28} {str(refusal).splitlines()[0][:70]}", flush=True)
            continue
        seconds = time.perf_counter() - start
        errors[row] = error(small, subject)
        ratio = errors["torch-pruning, l1"] / errors[row]
        print(
            f"{name:10} {row:28} {share(small, subject):6.1%} {errors[row]:8.4f} {ratio:7.2f} "
            f"{seconds:7.0f} s",
            flush=True,
        )
    return errors["torch-pruning, l1"] / errors["gfx prune + refit"]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure repair on trained generators.")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--train", type=int, default=None, help="steps for the drawings' generator")
    arguments = parser.parse_args()
    print(f"{'generator':10} {'':28} {'MACs':>6} {'error':>8} {'times less':>7} {'time':>7}")
    found = {}
    for name in arguments.only:
        subject = drawings(arguments.train) if name == "drawings" else SUBJECTS[name]()
        found[name] = compare(name, subject)
    reached = sum(ratio >= TARGET for ratio in found.values())
    print(f"at least {TARGET} times less error than torch-pruning: {reached} of {len(found)}")


if __name__ == "__main__":
    main()
