"""Spreads what a search judges over the processes of a run.

1. The first process searches: it alone proposes, and keeps the ledger. The others judge what it
   sends them, until it says that the search has ended.
2. What a judge says is a function of the net alone: the search is the same with any number of
   processes, bit for bit on equal devices.
3. A process that fails says so to the first, which raises it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gfx.errors import InputError
from gfx.train.loop.devices import Devices
from gfx.train.search.example_judge import ExampleJudge
from gfx.train.search.judge_protocol import Judgement, Widths

__all__ = ["SpreadJudge"]


class SpreadJudge:
    """A judge whose nets are judged by all processes, each its share.

    Example:
        >>> import gfx, torch
        >>> from gfx.train import tasks
        >>> from gfx.train.search.judged_examples import JudgedExamples
        >>> from gfx.train.search.supernet_judge import SupernetJudge
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> alone = SupernetJudge(net, JudgedExamples.of(tasks.inputs(torch.randn(8, 100, 1, 1))))
        >>> with SpreadJudge(alone, Devices("cpu")).led() as judge:
        ...     judge.judge([net.largest()])[0].value
        0.0
    """

    def __init__(self, judge: ExampleJudge, devices: Devices) -> None:
        self._judge, self._devices = judge, devices
        self.score = judge.score
        self.higher_is_better = judge.higher_is_better
        self.examples = judge.examples

    def judge(self, nets: Sequence[Widths], examples: int | None = None) -> list[Judgement]:
        """Judges nets, in the first process.

        Raises: what went wrong here; InputError of what went wrong in another process.
        """
        asked = [dict(net) for net in nets]
        self._devices.broadcast((asked, examples))
        return self._together(asked, examples)

    @contextmanager
    def led(self) -> Iterator["SpreadJudge"]:
        """Lets the others go when the first process has searched, or failed."""
        try:
            yield self
        finally:
            self._devices.broadcast(None)

    def follow(self) -> None:
        """Judges what the first process sends, until it ends.

        Raises: what went wrong here; InputError of what went wrong in another process.
        """
        while (asked := self._devices.broadcast(None)) is not None:
            self._together(*asked)

    def _together(self, nets: Sequence[Widths], examples: int | None) -> list[Judgement]:
        """Judges this process's share, and collects those of all."""
        # neighbours in this order agree the longest from the input on: they share the most
        order = sorted(range(len(nets)), key=lambda at: tuple(self._judge.net.units(nets[at])))
        shares = _shares(order, self._devices.ranks)
        mine = shares[self._devices.rank]
        failure: Exception | None = None
        found: list[Judgement] = []
        try:
            found = self._judge.judge([nets[at] for at in mine], examples) if mine else []
        except Exception as error:  # of any kind: the others wait for this process
            failure = error
        said = None if failure is None else f"{type(failure).__name__}: {failure}"
        sent = self._devices.gather_objects((said, found))
        if failure is not None:
            raise failure
        for rank, (told, _) in enumerate(sent):
            if told is not None:
                raise InputError(f"process {rank} of {len(sent)} could not judge: {told}")
        made = {at: one for share, (_, each) in zip(shares, sent, strict=True)
                for at, one in zip(share, each, strict=True)}  # fmt: skip
        return [made[at] for at in range(len(nets))]


def _shares(order: Sequence[int], ranks: int) -> list[Sequence[int]]:
    """Splits an order into as many runs as there are processes, as even as can be.

    Example:
        >>> _shares([3, 0, 1, 2, 4], 2)
        [[3, 0, 1], [2, 4]]
    """
    begins = [-(-len(order) * rank // ranks) for rank in range(ranks + 1)]
    return [order[begins[rank] : begins[rank + 1]] for rank in range(ranks)]
