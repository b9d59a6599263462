"""Law: a call by keyword is the same call; groups, costs, prunes and reports do not change."""

import torch
from hypothesis import given
from torch import fx, nn

import gfx
from support.blocks import Spec
from support.keyword_calls import by_keyword
from support.laws import law, partition
from support.strategies import specs


class Around(nn.Module):
    """Calls a graph, so that the front end traces its code again."""

    def __init__(self, inside: fx.GraphModule) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, *given):
        return self.inside(*given)


def lines(program: gfx.Program) -> list[str]:
    return program.text().splitlines()[1:]


@law(12, swept=25)
@given(specs(approximate=True))
def test_a_call_by_keyword_is_the_same_call(spec: Spec) -> None:
    model, inputs = spec.build()
    program = gfx.trace(model, inputs)
    named, changed = by_keyword(program.module, program.example_inputs)
    assert changed
    again = gfx.trace(named, inputs)
    assert lines(again) == lines(program)
    assert partition(gfx.channels(again)) == partition(gfx.channels(program))
    assert gfx.cost(again).macs == gfx.cost(program).macs


def test_the_report_and_the_prune_do_not_change() -> None:
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", ngf=4).eval()
    program = gfx.trace(model, torch.randn(1, 3, 32, 32))
    named, changed = by_keyword(program.module, program.example_inputs)
    assert changed > 20
    recipe = {"passes": [{"channel_prune": {"ratio": 0.5}}]}
    wanted, got = (gfx.apply(recipe, m, program.example_inputs) for m in (model, Around(named)))
    assert gfx.report(got).after.macs == gfx.report(wanted).after.macs
    stages = [[layer.stage for layer in gfx.report(m).record.layers] for m in (wanted, got)]
    assert stages[0] == stages[1]
