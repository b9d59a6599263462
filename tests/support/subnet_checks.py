"""Compares a supernet at one of its subnets with what is extracted of it."""

import torch
from torch.utils import _pytree as pytree

import gfx
from gfx.costs import cost_of
from gfx.ir.execute import distance, tolerance
from gfx.ir.random_state import keep_random_state
from support.programs import weighted_sum

__all__ = ["judge", "learn"]

CHANGED = "modified by an inplace operation"


def learn(net, given):
    """Runs a net and takes the gradient of a weighted sum of its outputs."""
    with keep_random_state(seed=0), torch.enable_grad():
        output = net(*pytree.tree_map_only(torch.Tensor, lambda x: x.clone(), given))
        loss = weighted_sum(output)
        net.zero_grad()
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            try:
                loss.backward()
            except RuntimeError as error:
                if CHANGED not in str(error):  # else it is a model that cannot learn
                    raise
                net.zero_grad()
    return output


def judge(net, given, widths):
    """Compares a supernet at some widths with what is extracted, tensor by tensor."""
    allowed = tolerance(net.program)
    net.set(widths)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    small = net.extract()
    wanted, got = learn(small, given), learn(net, given)
    assert distance(wanted, got) <= allowed
    parts, state = net.parts(widths), net.state_dict()
    mine, whole = dict(small.named_parameters()), dict(net.named_parameters())
    for name, value in small.state_dict().items():
        part = parts.get(name)
        now = state[name] if part is None else part.of(state[name])
        assert distance(value, now) <= allowed, name
        if part is not None:  # outside of it nothing moved
            kept = state[name].clone()
            part.write(kept, part.of(before[name]))
            assert torch.equal(kept, before[name]), name
        if name in mine and mine[name].grad is not None:
            gradient = whole[name].grad
            inside = gradient if part is None else part.of(gradient)
            assert distance(mine[name].grad, inside) <= 100 * allowed, name
            if part is not None:
                rest = gradient.clone()
                part.write(rest, torch.zeros_like(inside))
                assert not rest.any(), name
    small_state = small.state_dict()
    for name, value in state.items():  # what the subnet has no part of stays as it is
        if name not in small_state:
            assert torch.equal(value, before[name]), name
            assert name not in whole or whole[name].grad is None, name
            assert parts[name].none, name
    cost, exact = net.cost(widths), cost_of(gfx.Program(small, net.program.example_inputs))
    for measure in ("macs", "params", "param_bytes", "peak_activation_bytes"):
        assert getattr(cost, measure) == getattr(exact, measure), measure
    net.load_state_dict(before)
