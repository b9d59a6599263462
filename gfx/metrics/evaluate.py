"""Judges a set of generated images by several metrics at once."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.metrics.extractors import BATCH, Extractor, make_extractor
from gfx.metrics.image_batches import Images, batched
from gfx.metrics.image_pairs import PairedMeans
from gfx.metrics.metric_name import PAIRED, MetricName, parse_metric
from gfx.metrics.reference import Reference
from gfx.metrics.score import Score
from gfx.metrics.set_distances import frechet, kernel_distance, kernel_spread, precision

__all__ = ["check_metrics", "distance_of_sets", "evaluate"]

_LEAST = {"fd": 2, "kd": 4, "precision": 4, "recall": 4}  # images of either side
_SEED = 0  # of the subsets of a kernel distance


def evaluate(
    metrics: Sequence[str],
    fakes: Images,
    *,
    reals: Images | Reference | None = None,
    targets: Images | None = None,
    fid_weights: str | Path | None = None,
    extractors: Mapping[str, nn.Module] | None = None,
) -> dict[str, Score]:
    """Judges generated images; all images are in [-1, 1].

    With ground truth, `targets`, one for each fake in the same order:

    - l1, psnr, ssim: means over the images, of images in [-1, 1].

    With real images, `reals`, in no order and of any number:

    - fd[FEATURES]: Fréchet distance.
    - kd[FEATURES]: kernel distance, unbiased, with its spread over 20 random halves.
    - precision[FEATURES], recall[FEATURES]: shares of one set in the manifold of the other.

    FEATURES are efficientnet_lite0 (extra `fd`), inception (with `fid_weights`), or your own
    network as package.module:factory, or under a name with a colon in `extractors`. Options follow
    a question mark: size, in pixels, that images are resized to, and axes, of greatest spread of
    the real images, that features are projected on: fd[efficientnet_lite0?size=224&axes=0] takes
    all 1280. Distances are comparable only at the same features and options and the same counts of
    images: a Fréchet distance falls about as 1/n, of two samples of one distribution too. Only
    fd[inception] may be called FID.

    The fakes are read once, in batches; what is held of them is their features. They may be an
    iterator. Nothing is random but the subsets of kd, which are the same each time.

    Raises: InputError if a metric is unknown, lacks its images or has too few, or images are not
        in [-1, 1].

    Example:
        >>> found = evaluate(["l1"], torch.zeros(2, 3, 4, 4), targets=torch.ones(2, 3, 4, 4))
        >>> print(found["l1"])
        l1 1.000 (2 images)
    """
    named = check_metrics(metrics, reals=reals is not None, targets=targets is not None)
    reference = reals if isinstance(reals, Reference) or reals is None else Reference(reals)
    networks = {
        name.text: make_extractor(name, fid_weights=fid_weights, extractors=extractors)
        for name in named
        if name.features is not None
    }
    means = {name.text: PairedMeans(name.kind) for name in named if name.kind in PAIRED}
    # networks that differ in their axes alone share their features
    features: dict[str, list[Tensor]] = {each.identity: [] for each in networks.values()}
    by_identity = {each.identity: each for each in networks.values()}
    count = 0
    with torch.no_grad():
        for batch, target in _paired(fakes, targets if means else None):
            count += len(batch)
            for mean in means.values():
                mean.add(batch, target)
            for identity, found in features.items():
                found.append(by_identity[identity](batch))
    if not count:
        raise InputError("there are no fakes to judge; give some images")
    scores = {}
    for name in named:
        if name.kind in PAIRED:
            value = means[name.text].value()
            scores[name.text] = Score(name.text, value, name.higher_is_better, fakes=count)
        elif reference is not None:
            network = networks[name.text]
            made = torch.cat(features[network.identity])
            scores[name.text] = distance_of_sets(name, network, made, reference)
    return scores


def check_metrics(metrics: Sequence[str], *, reals: bool, targets: bool) -> list[MetricName]:
    """Reads the names of metrics, and checks that there are the images that they need.

    Raises: InputError if a metric is unknown, or needs images that are not there.

    Example:
        >>> [name.kind for name in check_metrics(["psnr"], reals=False, targets=True)]
        ['psnr']
    """
    if isinstance(metrics, str):
        raise InputError(f"metrics is {metrics!r}; give a list of names, as in [{metrics!r}]")
    named = [parse_metric(text) for text in dict.fromkeys(metrics)]
    for name in named:
        if name.kind in PAIRED and not targets:
            raise InputError(f"metric {name.text!r} compares with ground truth; give targets")
        if name.kind not in PAIRED and not reals:
            raise InputError(f"metric {name.text!r} compares with real images; give reals")
    return named


def _paired(fakes: Images, targets: Images | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches of fakes, each with its targets; without targets, with themselves."""
    if targets is None:
        yield from ((batch, batch) for batch in batched(fakes, BATCH, "fakes"))
        return
    count = 0
    pairs = zip_longest(batched(fakes, BATCH, "fakes"), batched(targets, BATCH, "targets"))
    for batch, target in pairs:
        if batch is None or target is None or len(batch) != len(target):
            ours, theirs = (count + (0 if each is None else len(each)) for each in (batch, target))
            raise InputError(
                f"there are not as many fakes as targets: after {min(ours, theirs):,} of both "
                f"there are more {'fakes' if ours > theirs else 'targets'}; give one target for "
                "each fake, in the same order"
            )
        if batch.shape != target.shape:
            raise InputError(
                f"a fake is {'x'.join(map(str, batch.shape[1:]))} and its target "
                f"{'x'.join(map(str, target.shape[1:]))}; make them of one shape"
            )
        count += len(batch)
        yield batch, target


def distance_of_sets(
    name: MetricName, network: Extractor, fakes: Tensor, reals: Reference
) -> Score:
    """Returns a distance of features (n, d) of fakes from those of real images.

    Raises: InputError if there are too few images.
    """
    least = _LEAST[name.kind]
    for who, count in (("fakes", len(fakes)), ("real images", reals.count)):
        if count < least:
            raise InputError(
                f"metric {name.text!r} needs at least {least} {who}, and there are {count}"
            )
    theirs = reals.features(network)
    if fakes.shape[1] != theirs.shape[1]:
        raise InputError(
            f"metric {name.text!r}: there are {fakes.shape[1]} features of fakes and "
            f"{theirs.shape[1]} of real images; give images of one size, or a network that "
            "averages over positions"
        )
    ours, mean, axes = fakes, theirs.mean(0), reals.axes(network)
    if axes is not None:
        ours, theirs = (fakes - mean) @ axes, (theirs - mean) @ axes
    spread, seed = None, None
    if name.kind == "fd":
        value = frechet(ours, theirs)
    elif name.kind == "kd":
        value, seed = kernel_distance(ours, theirs), _SEED
        spread = kernel_spread(ours, theirs, seed=_SEED)
    else:
        first, second = (ours, theirs) if name.kind == "precision" else (theirs, ours)
        value = precision(first, second)
    return Score(
        name.text,
        value,
        name.higher_is_better,
        fakes=len(ours),
        reals=len(theirs),
        features=f"{network.identity}:{network.axes or 'all'} axes",
        spread=spread,
        seed=seed,
    )
