"""Builds learnable 1x1 layers between features of different widths."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from gfx.compression.taps.elastic_adapters import ELASTIC, ElasticLinear
from gfx.compression.taps.tap_nodes import replace_graph, taps
from gfx.errors import InputError
from gfx.frontend.inputs.bind import bind
from gfx.frontend.inputs.infer import infer, remembered
from gfx.frontend.private_copy import unwrap
from gfx.ir.model_kinds import require_module
from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state
from gfx.ir.shapes.propagate import propagate
from gfx.ir.stages import is_layer

__all__ = ["Adapters", "Direction", "adapters", "adapters_between"]

Direction = Literal["student_to_teacher", "teacher_to_student"]

_CONVS: dict[int, type[nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


class Adapters(nn.Module):
    """Maps features to other widths, one layer for each tap.

    Example:
        >>> layers = Adapters({"mid": nn.Conv2d(4, 8, 1), "end": nn.Identity()})
        >>> features = {"mid": torch.zeros(1, 4, 5, 5), "end": torch.zeros(1, 3, 5, 5)}
        >>> {name: tuple(f.shape) for name, f in layers(features).items()}
        {'mid': (1, 8, 5, 5), 'end': (1, 3, 5, 5)}
        >>> list(layers), layers["mid"]
        (['mid', 'end'], Conv2d(4, 8, kernel_size=(1, 1), stride=(1, 1)))
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the features at their new widths, by tap.

        Raises: InputError if a tap is missing or unknown.
        """
        if features.keys() != self.layers.keys():
            raise InputError(
                _other_sets("the adapters", self.layers.keys(), "the features", features)
            )
        return {name: layer(features[name]) for name, layer in self.layers.items()}

    def __getitem__(self, tap: str) -> nn.Module:
        return self.layers[tap]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @torch.no_grad()
    def fit(self, features: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
        """Fits each layer by least squares, so that the adapted features are nearest to `wanted`.

        All examples and positions count. Training starts with the features of a pruned student near
        its teacher's. Random adapters would first have to learn a mapping, and give the student
        misleading gradients until then.

        Shapes: features as for a call, `wanted` as its result. Some hundred positions per channel
        determine a layer well.
        Raises: InputError if taps differ, or something wanted has another size than the result.

        Example:
            >>> fitted = Adapters({"mid": nn.Conv2d(2, 1, 1)})
            >>> x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
            >>> fitted.fit({"mid": x}, {"mid": 3 * x[:, :1] - x[:, 1:] + 0.5})
            >>> {name: p.data.flatten().round(decimals=4).tolist()
            ...  for name, p in fitted.layers["mid"].named_parameters()}
            {'weight': [3.0, -1.0], 'bias': [0.5]}
        """
        made = self(features)
        if wanted.keys() != made.keys():
            raise InputError(_other_sets("the adapters", made, "what is wanted", wanted))
        for name, layer in self.layers.items():
            if made[name].shape != wanted[name].shape:
                raise InputError(
                    f"tap {name}: the adapter gives {_text(tuple(made[name].shape))}, and "
                    f"{_text(tuple(wanted[name].shape))} is wanted; run both models on the same "
                    "inputs"
                )
            if not isinstance(layer, nn.Identity):
                _least_squares(layer, features[name], wanted[name])


def _least_squares(layer: nn.Module, features: Tensor, wanted: Tensor) -> None:
    """Solves for the weight, and the bias if there is one, of a 1x1 convolution or linear layer."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    dim = features.ndim - 1 if isinstance(layer, nn.Linear) else 1
    known, asked = (x.double().movedim(dim, -1).flatten(0, -2) for x in (features, wanted))
    if bias is not None:  # the column of ones
        known = torch.cat([known, known.new_ones(len(known), 1)], dim=1)
    # dead channels make columns dependent; the pseudo-inverse handles that
    solution = torch.linalg.pinv(known.T @ known, hermitian=True) @ (known.T @ asked)
    weight.copy_(solution[: weight.shape[1]].T.view_as(weight))
    if isinstance(bias, Tensor):
        bias.copy_(solution[-1])


def adapters(
    student: nn.Module,
    teacher: nn.Module,
    example_inputs: Any = None,
    *,
    direction: Direction = "student_to_teacher",
    bias: bool = True,
    seed: int = 0,
) -> Adapters:
    """Builds the learnable layers f_t between the tapped features of a student and a teacher.

    One for each tap: identity where the widths are equal, else a 1x1 convolution over the channels.
    That is nn.Conv2d for maps, nn.Conv1d or nn.Conv3d for one or three dimensions after the
    channels, nn.Linear for vectors and for tokens whose channels come last. The dimension of the
    channels is the one in which the two differ. Add the parameters to an optimizer: the student's,
    as the papers do.

    `direction` says whose features are mapped: the student's to the teacher's widths, or the other
    way round. `bias=False` is what GCC does. Weights are drawn as torch does, from `seed`, in the
    dtype and on the device of the features that are mapped. Without `example_inputs` each model's
    own are taken. Only shapes are computed.

    Raises: InputError if the models have different taps, or features that cannot match.

    Source: Li et al. 2020, GAN Compression, arXiv:2003.08936, equation 3; Li et al. 2021, GCC,
    arXiv:2110.14439.

    Example:
        >>> import gfx
        >>> recipe, x = {"passes": [{"distill_taps": {"layers": "0"}}]}, torch.zeros(1, 3, 8, 8)
        >>> nets = (nn.Sequential(nn.Conv2d(3, n, 1), nn.Conv2d(n, 3, 1)) for n in (4, 16))
        >>> student, teacher = (gfx.apply(recipe, net, x) for net in nets)
        >>> adapters(student, teacher, x).layers["0"]
        Conv2d(4, 16, kernel_size=(1, 1), stride=(1, 1))
    """
    if direction not in ("student_to_teacher", "teacher_to_student"):
        raise InputError(
            f"direction is {direction!r}; give 'student_to_teacher' or 'teacher_to_student'"
        )
    ours, theirs = (
        _seen(student, "student", example_inputs),
        _seen(teacher, "teacher", example_inputs),
    )
    return _built(ours, theirs, direction, bias=bias, seed=seed, batch=example_inputs is not None)


def adapters_between(
    features: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    bias: bool = True,
    seed: int = 0,
    elastic: bool = False,
) -> Adapters:
    """Builds what `adapters` does from features of one batch, as `gfx.tapped` returns them.

    With `elastic` the features are those of a supernet's largest net: every tap has a layer, which
    takes the first channels of them too.

    Raises: InputError if the taps differ, or features cannot match.

    Example:
        >>> features, wanted = {"mid": torch.zeros(2, 4, 8, 8)}, {"mid": torch.zeros(2, 6, 8, 8)}
        >>> adapters_between(features, wanted)["mid"]
        Conv2d(4, 6, kernel_size=(1, 1), stride=(1, 1))
    """
    ours, theirs = (_of_features(each) for each in (features, wanted))
    direction: Direction = "student_to_teacher"
    return _built(ours, theirs, direction, bias=bias, seed=seed, batch=True, elastic=elastic)


# by tap: the feature, or a fake of it, and where its channels are, if that is known
Seen = dict[str, tuple[Tensor, int | None]]


def _of_features(features: Mapping[str, Tensor]) -> Seen:
    return {name: (value, None) for name, value in features.items()}


def _built(
    ours: Seen,
    theirs: Seen,
    direction: Direction,
    *,
    bias: bool,
    seed: int,
    batch: bool,
    elastic: bool = False,
) -> Adapters:
    """Builds a layer for each tap; `batch` says whether both sides have the same examples."""
    if ours.keys() != theirs.keys():
        raise InputError(_other_sets("the student", ours, "the teacher", theirs))
    built: dict[str, nn.Module] = {}
    with keep_random_state(seed=seed):
        for name, (source, dim) in ours.items():
            target = theirs[name][0]
            dim = _channels(name, source, target, dim, batch=batch)
            if direction == "teacher_to_student":
                source, target = target, source
            built[name] = _layer(source, target, dim, bias, elastic)
    return Adapters(built)


def _seen(model: nn.Module, who: str, example_inputs: Any) -> Seen:
    """Runs a tapped model on shapes alone."""
    inner = unwrap(require_module(model, f"the {who}"))
    if not isinstance(inner, fx.GraphModule) or not taps(inner):
        raise InputError(
            f"the {who} ({type(inner).__name__}) has no taps; apply the pass distill_taps first"
        )
    if example_inputs is None:
        arguments = (remembered(inner) or infer(inner, smaller=False)).arguments
    else:
        arguments = bind(inner, example_inputs)
    graph = fx.Graph()
    graph.output(graph.graph_copy(inner.graph, {}))
    program = replace_graph(Program(inner, arguments.inputs()), graph)
    propagate(program)
    found = taps(program.module).items()
    return {name: (node.meta["val"], _dimension(program, node)) for name, node in found}


def _dimension(program: Program, node: fx.Node) -> int | None:
    """Returns the dimension of the channels by the nearest layer; None without one."""
    while node.all_input_nodes:
        if is_layer(program, node):
            linear = op_name(node) == "linear" or (
                node.op == "call_module" and isinstance(program.submodule(node), nn.Linear)
            )
            return node.meta["val"].ndim - 1 if linear else 1
        if op_name(node) in _MOVES:
            return None
        node = node.all_input_nodes[0]
    return None


_MOVES = frozenset(
    "view reshape flatten unflatten permute transpose movedim squeeze unsqueeze t mT rearrange "
    "chunk split getitem stack unbind".split()
)


def _channels(name: str, student: Tensor, teacher: Tensor, dim: int | None, *, batch: bool) -> int:
    """Returns the dimension in which two features differ in width.

    `batch` says whether both have the same examples; otherwise the first dimension may differ.

    Raises: InputError if they differ in anything else.
    """
    ours, theirs = tuple(student.shape), tuple(teacher.shape)
    both = f"tap {name}: the student's feature is {_text(ours)}, the teacher's {_text(theirs)}"
    if len(ours) != len(theirs):
        raise InputError(f"{both}; features of different rank cannot match: tap another place")
    differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if not batch:
        differ = [i for i in differ if i > 0]
    if not differ:
        return 1
    if len(differ) > 1 or differ[0] not in (1, len(ours) - 1) or dim not in (None, differ[0]):
        raise InputError(
            f"{both}; an adapter changes the channels alone: tap places of equal size, or give "
            "both models inputs of the same size"
        )
    return differ[0]


def _layer(source: Tensor, target: Tensor, dim: int, bias: bool, elastic: bool) -> nn.Module:
    """Builds the layer that maps one width to another."""
    if source.ndim < 2 or (source.shape[dim] == target.shape[dim] and not elastic):
        return nn.Identity()
    sizes = source.shape[dim], target.shape[dim]
    where: Any = {"dtype": source.dtype, "device": source.device}
    if dim == 1 and source.ndim in _CONVS:
        conv = _CONVS[source.ndim]
        made: nn.Module = (ELASTIC[conv] if elastic else conv)(*sizes, 1, bias=bias, **where)
        return made
    return (ElasticLinear if elastic else nn.Linear)(*sizes, bias=bias, **where)


def _other_sets(one: str, first: Iterable[str], two: str, second: Iterable[str]) -> str:
    """Says that two sets of taps differ, and lists both."""
    return (
        f"{one} and {two} have different taps: {', '.join(first) or 'none'}; and "
        f"{', '.join(second) or 'none'}; tap both at the same places"
    )


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
