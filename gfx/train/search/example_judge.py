"""What judges of nets share: the examples, the score, and what was judged before."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from gfx.errors import InputError
from gfx.train.search.judge_protocol import Judgement, Widths
from gfx.train.search.judged_examples import ExampleScores, JudgedExamples, higher_is_better
from gfx.train.supernet import Supernet

__all__ = ["ExampleJudge", "UnitWidths"]

UnitWidths = tuple[int, ...]  # of a net: channels that go together, of each elastic group


class ExampleJudge(ABC):
    """Judges nets of a supernet by one metric on examples; each net once for a number of them."""

    def __init__(
        self, net: Supernet, on: JudgedExamples, score: str, fid_weights: str | None
    ) -> None:
        self.net, self.on, self.score = net, on, score
        self._fid_weights = fid_weights
        self._device = next(iter(net.parameters())).device
        self._known: dict[tuple[UnitWidths, int], Judgement] = {}
        self._scores: ExampleScores | None = None

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value is a better net."""
        return higher_is_better(self.score)

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return self.on.count

    def judge(self, nets: Sequence[Widths], examples: int | None = None) -> list[Judgement]:
        """Judges nets on the first of its examples; None: on all.

        Raises: InputError if there are not so many, or widths are none of the supernet's;
            PreconditionError if there are too few examples to refit on.
        """
        count = self.examples if examples is None else examples
        if not 0 < count <= self.examples:
            raise InputError(f"examples={examples} must be from 1 to {self.examples}")
        keys = [tuple(self.net.units(net)) for net in nets]
        missing = {
            key: net for key, net in zip(keys, nets, strict=True) if (key, count) not in self._known
        }
        if missing:
            self._judge(missing, count)
        return [self._known[key, count] for key in keys]

    @abstractmethod
    def _judge(self, missing: Mapping[UnitWidths, Widths], count: int) -> None:
        """Judges nets that are not known on so many examples, and notes what it found."""
