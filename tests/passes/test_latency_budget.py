"""Budgets on latency, for machines made of formulas: what is planned, measured, told, refused."""

import random
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

import gfx
from gfx.costs import Budget, LatencyTimer, Reading, cost_of
from gfx.errors import BudgetError, TimingError
from gfx.ir.layers import layers_of
from gfx.pipeline.report import Report
from gfx.planning import Limits, decide, decide_offers
from gfx.progress import time_limit
from gfx.sensitivity import to_recipe as emit
from passes.channel_prune import ChannelPrune
from passes.decompose import Decompose
from support.fake_meter import Formula, FormulaPredictor
from support.oracle import alike


class Plain(nn.Module):
    """Has three dense layers between a stem and a head."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.one = nn.Conv2d(width, width, 3, padding=1)
        self.two = nn.Conv2d(width, width, 3, padding=1)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.one(torch.relu(self.stem(x))))
        return self.to_rgb(torch.relu(self.two(x)))


X = torch.linspace(-1, 1, 1 * 3 * 12 * 12).reshape(1, 3, 12, 12)
BOTH: list[Any] = [{"channel_prune": {}}, {"decompose": {"batches": 1}}]


def plain(width: int = 32) -> nn.Module:
    torch.manual_seed(0)
    return Plain(width).eval()


def shrunk(passes: list[Any], meter: Formula, width: int = 32, **budget: Any) -> nn.Module:
    recipe = {"budget": budget, "passes": passes}
    return gfx.apply(recipe, plain(width), (X,), meter=meter)


def took(model: nn.Module, meter: Formula) -> float:
    return meter.ms(gfx.trace(model, (X,)))


def separable(model: nn.Module) -> bool:
    return any("depthwise" in name for name, _ in model.named_modules())


def widths(model: nn.Module) -> int:
    """Sums the channels that lie between the layers."""
    last = {n.split(".")[0]: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return sum(conv.out_channels for name, conv in last.items() if name != "to_rgb")


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH[1:], BOTH, BOTH[::-1]], ids=str)
@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_a_fraction_of_the_latency_is_kept_and_closely(passes, share):
    meter = Formula(constant=0.01)
    small = shrunk(passes, meter, latency=share)
    assert 0.6 * share <= took(small, meter) / took(plain(), meter) <= share
    (timing,) = gfx.report(small).timings
    assert timing.after == pytest.approx(took(small, meter))
    assert timing.limit == pytest.approx(share * took(plain(), meter))
    assert (timing.backend, timing.machine) == ("eager", "a machine of formulas")


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH[1:], BOTH], ids=str)
@pytest.mark.parametrize("wrong", [0.4, 2.5])
def test_what_is_foreseen_wrongly_is_put_right_by_measuring(passes, wrong):
    meter = Formula(constant=0.01, wrong=wrong)
    small = shrunk(passes, meter, latency=0.3)
    assert 0.6 * 0.3 <= took(small, meter) / took(plain(), meter) <= 0.3
    told = gfx.report(small).passes[0].timings
    (true,), (guess,) = told["measured"].values(), told["foreseen"].values()
    assert guess == pytest.approx(wrong * true)


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH[1:], BOTH], ids=str)
@pytest.mark.parametrize(("latency", "macs"), [(0.5, 0.2), (0.2, 0.5)])
def test_limits_on_latency_and_macs_are_both_kept(passes, latency, macs):
    meter = Formula(constant=0.05)
    small = shrunk(passes, meter, latency=latency, macs=macs)
    assert took(small, meter) <= latency * took(plain(), meter)
    assert gfx.cost(small, (X,)).macs.exact <= macs * gfx.cost(plain(), (X,)).macs.exact


def test_a_machine_that_is_slow_at_separable_layers_gets_narrow_ones_and_the_other_way_round():
    slow = shrunk(BOTH, Formula(dense=1e-6, separable=2e-5), latency=0.3)
    fast = shrunk(BOTH, Formula(dense=1e-6, separable=1e-7), latency=0.3)
    assert not separable(slow)
    assert separable(fast)
    assert widths(slow) < widths(fast) <= 96


def test_by_macs_alone_no_clock_is_asked():
    meter = Formula()
    small = shrunk(BOTH, meter, macs=0.3)
    assert 0.2 < gfx.cost(small, (X,)).macs.exact / gfx.cost(plain(), (X,)).macs.exact <= 0.3
    assert gfx.report(small).timings == ()
    assert meter.read_so_far == []


@pytest.mark.parametrize("budget", [{"latency": 0.3}, {"macs": 0.3}], ids=str)
def test_passes_that_share_a_budget_give_the_same_in_either_order(budget):
    first = shrunk(BOTH, Formula(separable=5e-7), **budget)
    second = shrunk(BOTH[::-1], Formula(separable=5e-7), **budget)
    assert alike(first(X), second(X))
    told = [[(p.name, p.changes) for p in gfx.report(m).passes] for m in (first, second)]
    assert told[0] == told[1]
    assert [name for name, _ in told[0]] == ["channel_prune", "decompose"]
    assert gfx.report(first).passes[0].details["planned_with"] == ["decompose"]


def test_shared_macs_are_kept_by_less_damage_than_either_pass_does():
    both, alone = (shrunk(p, Formula(), macs=0.4) for p in (BOTH, BOTH[1:]))
    told = [gfx.report(m).passes[0].details["damage"] for m in (both, alone)]
    assert told[0] <= told[1]


def test_the_plan_is_the_best_of_all_plans():
    """Compares with every combination of a tiny problem."""
    from gfx.planning import Choice, Option, PlanCosts

    program = gfx.trace(plain(8), (X,))
    groups, layers = gfx.channels(program), layers_of(program)
    names = [group.name for group in groups.free]
    damages = [(0.0, 0.1, 0.35), (0.0, 0.3, 0.4), (0.0, 0.05, 0.5)]
    choices = [
        Choice(n, tuple(Option(w, d) for w, d in zip((None, 4, 1), each, strict=True)), "group")
        for n, each in zip(names, damages, strict=True)
    ]
    meter = Formula(constant=0.001)
    timer = LatencyTimer(meter, program)
    budget = Budget(measure="latency", limit=0.4 * meter.ms(program))
    found = decide(groups, layers, choices, [budget], timer)
    times = {budget: meter.predictor(groups, "eager", 1)}
    costs = PlanCosts(groups, layers, choices, [budget], times)
    plans = torch.tensor(list(product(range(3), repeat=3))).numpy()
    kept = costs(plans)[:, 0] <= budget.limit
    totals = [sum(d[i] for d, i in zip(damages, p, strict=True)) for p in plans.tolist()]
    best = min(t for t, k in zip(totals, kept.tolist(), strict=True) if k)
    assert found.damage == pytest.approx(best)
    assert found.measured["latency (eager)"] <= budget.limit


def test_a_limit_below_what_the_pinned_parts_take_is_refused_with_the_floor():
    meter = Formula(constant=2.0)
    for passes, who in ((BOTH[:1], "channel_prune"), (BOTH[1:], "decompose")):
        with pytest.raises(
            BudgetError, match=rf"^{who}: the budget on latency \(eager\) is 1 ms"
        ) as e:
            shrunk(passes, meter, latency_ms=1)
        assert "too much; raise the budget" in str(e.value)
        assert "to_rgb: its channels are the model's output" in str(e.value)
        assert " 2.0" in str(e.value)  # the floor, in milliseconds
    with pytest.raises(BudgetError, match=r"^channel_prune and decompose: the budget"):
        shrunk(BOTH, meter, latency_ms=1)


def test_a_program_without_free_groups_is_refused_with_what_it_takes():
    model, meter = nn.Sequential(nn.Conv2d(3, 3, 3)), Formula(constant=0.01, wrong=0.1)
    with pytest.raises(BudgetError, match=r"^channel_prune: the budget on latency \(eager\) is "):
        gfx.apply({"budget": {"latency": 0.5}, "passes": BOTH[:1]}, model, (X,), meter=meter)


def test_the_floor_is_what_the_clock_says_not_what_was_foreseen():
    with pytest.raises(BudgetError, match=r"it is 2\.0\d+ ms, 1\.0\d+ ms too much"):
        shrunk(BOTH[:1], Formula(constant=2.0, wrong=3.0), latency_ms=1)


def test_a_limit_that_only_the_foresight_calls_out_of_reach_is_reached():
    meter = Formula(constant=0.05, wrong=50.0)
    small = shrunk(BOTH, meter, latency_ms=0.3)
    assert took(small, meter) <= 0.3


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH], ids=str)
def test_a_machine_too_noisy_to_decide_is_said_to_be(passes):
    with pytest.raises(TimingError, match="too noisy to tell whether the limit of 2 ms is kept"):
        shrunk(passes, Formula(noise=0.9), latency_ms=2)


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH], ids=str)
def test_where_noise_hides_the_limit_the_search_goes_on_below(passes):
    limit = 0.6 * took(plain(), Formula())
    small = shrunk(passes, Formula(noise=0.3), latency_ms=limit)
    assert took(small, Formula()) <= 0.9 * limit


def test_a_machine_that_gets_slower_does_not_change_what_a_fraction_is_of():
    meter = Formula(constant=0.01, slower=1.1)
    small = shrunk(BOTH, meter, latency=0.3)
    steady = Formula(constant=0.01)
    assert took(small, steady) / took(plain(), steady) <= 0.3 + 1e-9


def test_a_result_that_is_too_slow_in_the_end_is_refused():
    widths = {"channel_prune": {"ratio": 0.25}}
    with pytest.raises(BudgetError, match=r"latency \(eager\) is .* ms and the limit .* measured"):
        shrunk([widths], Formula(), latency=0.1)
    shrunk([widths], Formula(), latency=0.8)


def test_a_budget_that_is_kept_already_changes_nothing():
    small = shrunk(BOTH, Formula(), latency=1)
    assert all(not told.changes for told in gfx.report(small).passes)


def test_backend_and_threads_are_those_asked_for():
    meter = Formula()
    small = shrunk(BOTH, meter, latency={"limit": 0.5, "backend": "compile", "threads": 3})
    assert {(backend, threads) for backend, threads, _ in meter.read_so_far} == {("compile", 3)}
    (timing,) = gfx.report(small).timings
    assert (timing.backend, timing.threads) == ("compile", 3)


def test_reports_of_two_runs_are_equal_whatever_the_clock_says():
    runs = [Formula(constant=0.01), Formula(dense=2e-6, separable=2e-6, constant=0.02)]
    one, other = (gfx.report(shrunk(BOTH, meter, latency=0.3)) for meter in runs)
    assert one == other
    assert one.timings[0].after != other.timings[0].after
    assert Report.from_dict(one.to_dict()).timings == one.timings


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH[1:], BOTH], ids=str)
def test_the_record_repeats_the_result_without_the_clock(passes):
    small = shrunk(passes, Formula(), latency=0.3)
    again = []
    for told in gfx.report(small).passes:
        spec = told.details.get("resolved", told.spec)
        if told.name == "channel_prune":
            spec = {"kept": told.details["kept"]} if "kept" in told.details else {"ratio": 0.0}
        again.append({told.name: spec})
    assert alike(gfx.apply({"passes": again}, plain(), (X,))(X), small(X))


def test_a_pass_may_have_a_latency_of_its_own():
    meter = Formula()
    own = {"channel_prune": {"budget": [{"measure": "latency", "fraction": 0.5}]}}
    small = gfx.apply({"passes": [own]}, plain(), (X,), meter=meter)
    assert took(small, meter) <= 0.5 * took(plain(), meter)
    spec = gfx.report(small).passes[0].spec["budget"][0]
    assert (spec["fraction"], spec["limit"]) == (0.5, 0.0)


def test_the_report_tells_what_was_measured():
    text = str(gfx.report(shrunk(BOTH, Formula(), latency=0.5)))
    assert "latency, eager, ms" in text
    assert "of a machine of formulas" in text
    assert "planned_with" in text


def test_a_knapsack_weighs_by_the_time_saved():
    meter = Formula()
    passes = [{"channel_prune": {"importance": "taylor", "scope": "knapsack", "batches": 1}}]
    small = shrunk(passes, meter, latency=0.4)
    assert 0.3 < took(small, meter) / took(plain(), meter) <= 0.4


def test_widths_in_steps_that_are_fast_are_preferred():
    """One channel more than a multiple of 8 costs as much as 8 more."""

    class Stepped(Formula):
        def ms(self, program):
            widths = [m.out_channels for m in program.module.modules() if isinstance(m, nn.Conv2d)]
            return 1e-3 * sum(-(-w // 8) * 8 for w in widths)

        def predictor(self, groups, backend, threads):
            return Steps()

    class Steps:
        def predict(self, widths):
            return 1e-3 * (8 + (-(-widths // 8) * 8).sum(axis=1))

    meter = Stepped()
    small = shrunk([{"channel_prune": {}}], meter, latency=0.6)
    widths = [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)][:-1]
    assert took(small, meter) <= 0.6 * took(plain(), meter)
    assert all(width % 8 == 0 for width in widths), widths


def test_a_meter_written_for_version_0_1_0_plans_the_same():
    class Former:
        def __init__(self, meter):
            self.read, self.machine, self.foresee = meter.read, meter.machine, meter.predictor

    passes = [{"channel_prune": {}}]
    former, now = (shrunk(passes, m, latency=0.5) for m in (Former(Formula()), Formula()))
    assert [p.shape for p in former.parameters()] == [p.shape for p in now.parameters()]


def test_cost_of_counts_what_is_left_when_latency_is_met_early():
    small = shrunk(BOTH, Formula(), latency=0.9, macs=0.3)
    assert cost_of(gfx.trace(small, (X,))).macs.exact <= 0.3 * gfx.cost(plain(), (X,)).macs.exact


def test_a_recipe_from_findings_keeps_a_latency_too():
    model, meter = plain(), Formula(constant=0.01)
    table = gfx.inspect(model, (X,), widths=(0.5, 0.25))
    assert table.program is not None
    made = emit.recipe(table, {"latency": 0.4}, meter=meter)
    assert made.budget == {"latency": 0.4}
    small = gfx.apply(made, model, (X,), meter=meter)
    assert took(small, meter) <= 0.4 * took(model, meter)
    with pytest.raises(BudgetError, match=r"latency \(eager\) is to be at most 0.029\d+ ms"):
        emit.recipe(table, {"latency": 0.01}, meter=meter)


@pytest.mark.parametrize("limit", [{"fraction": 0.5}, {"limit": 5.0}])
def test_a_pass_applied_by_hand_is_told_that_nothing_measures(limit):
    budget = Budget(measure="latency", **limit)
    for pass_ in (ChannelPrune(budget=(budget,)), Decompose(budget=(budget,))):
        with pytest.raises(gfx.PreconditionError, match=r"latency \(eager\) needs a meter, and a"):
            pass_.apply(gfx.trace(plain(), (X,)), gfx.Context())


def test_the_shipped_recipe_halves_the_latency():
    meter = Formula(constant=0.01)
    small = gfx.apply("half-latency", plain(), (X,), meter=meter)
    assert took(small, meter) <= 0.5 * took(plain(), meter)


def test_without_a_pass_that_decomposes_each_meets_the_budget_by_itself():
    passes = [{"channel_prune": {"targets": ["one"]}}, {"channel_prune": {}}]
    small = shrunk(passes, Formula(), latency=0.6)
    assert all("planned_with" not in told.details for told in gfx.report(small).passes)


# what is measured before a refusal, and when the time is over


class Misled(Formula):
    """Predicts other forms of layers as free, although they take a hundred times the layer."""

    def predictor(self, groups, backend, threads):
        return FormulaPredictor(Formula(dense=self.dense, separable=0.0), groups)


def test_forms_that_are_slower_than_predicted_do_not_refuse_what_widths_reach():
    meter = Misled(separable=1e-4)
    limit = 0.3 * took(plain(), meter)
    small = shrunk(BOTH, meter, latency_ms=limit)
    assert not separable(small)
    assert 0.6 * limit <= took(small, meter) <= limit


class Disturbed(Formula):
    """Takes ten times as long, by other load, at all readings of a program but every third."""

    def read(self, programs, backend, threads, effort=1):
        times = super().read(programs, backend, threads, effort)
        load = 1 if len(self.read_so_far) % 3 == 0 else 10
        return [Reading(tuple(load * ms for ms in reading.times)) for reading in times]


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH], ids=str)
def test_the_smallest_is_measured_again_before_a_refusal(passes):
    meter = Disturbed(wrong=50.0)
    timer = LatencyTimer(meter, None)
    program = gfx.trace(plain(), (X,))
    limits = Limits((Budget(measure="latency", limit=0.3 * meter.ms(program)),), timer)
    offers = [pass_.offer(program, gfx.Context()) for pass_ in (ChannelPrune(), Decompose())]
    found, _ = decide_offers(program, offers[: len(passes)], limits)
    assert found.measured["latency (eager)"] <= limits.budgets[0].limit


def test_widths_that_are_fast_are_measured_before_a_refusal():
    """A layer of fewer than 8 channels takes a hundred times as long."""

    class Vectors(Formula):
        def ms(self, program):
            widths = [m.out_channels for m in program.module.modules() if isinstance(m, nn.Conv2d)]
            return sum(1.0 if width < 8 else 1e-3 * width for width in widths[:-1])

    meter = Vectors(wrong=1e6)
    small = shrunk(BOTH[:1], meter, latency_ms=0.05)
    assert took(small, meter) <= 0.05


class Slow(Formula):
    """Moves a clock by ten seconds at each reading."""

    def __init__(self, **how):
        super().__init__(**how)
        self.now = 0.0

    def read(self, programs, backend, threads, effort=1):
        self.now += 10
        return super().read(programs, backend, threads, effort)


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH[1:], BOTH], ids=str)
def test_when_the_time_is_over_the_best_so_far_is_the_result(passes):
    limit = 0.6 * took(plain(), Formula())
    slow = Slow(wrong=2.5)  # the first plan takes far less than it may
    with time_limit(15, lambda: slow.now):
        small = shrunk(passes, slow, latency_ms=limit)
    free = Slow(wrong=2.5)
    closer = shrunk(passes, free, latency_ms=limit)
    assert took(small, slow) < took(closer, free) <= limit
    assert len(slow.read_so_far) < len(free.read_so_far)
    notes = gfx.report(small).notes
    assert notes == ("stopped after 15 s, with the best so far: 1 of up to 6 plans were tried",)
    assert notes[0] in str(gfx.report(small))
    assert gfx.report(closer).notes == ()


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH[1:], BOTH], ids=str)
def test_when_the_time_is_over_and_nothing_keeps_the_budget_it_says_by_how_much(passes):
    meter = Slow(constant=2.0)
    with (
        time_limit(5, lambda: meter.now),
        pytest.raises(BudgetError, match=r"stopped after 5 s, and of the \d plans .* none") as e,
    ):
        shrunk(passes, meter, latency_ms=1)
    assert "the best so far takes 2.0" in str(e.value)
    assert " ms, 1.0" in str(e.value)
    assert "give it more time than 5 s, or raise the budget" in str(e.value)
    assert len(meter.read_so_far) <= 5


def test_time_is_an_argument_of_apply_and_must_be_a_number():
    with pytest.raises(gfx.InputError, match="time=0 is no number of seconds"):
        gfx.apply({"passes": BOTH[:1]}, plain(), (X,), time=0)
    small = gfx.apply({"passes": ["channel_prune"]}, plain(), (X,), time=1000)
    assert gfx.report(small).notes == ()


def test_a_search_says_what_it_does_and_how_far_it_is():
    told = []
    gfx.apply(
        {"budget": {"latency": 0.3}, "passes": BOTH},
        plain(),
        (X,),
        meter=Formula(constant=0.01, wrong=0.4),
        progress=told.append,
    )
    said = {event.what for event in told}
    assert {"tracing", "measuring damage", "trying plans"} <= said
    assert any(event.within and event.within[0].startswith("trying plans ") for event in told)
    assert {"channel_prune: applying", "decompose: checking"} <= said


class Unsteady(Formula):
    """Reads a program at another speed each time, all rounds of a reading alike.

    The first reading of each plan, which a search looks at, is the fastest.
    """

    def __init__(self, late: float, swing: float = 0.0, **given: Any) -> None:
        super().__init__(**given)
        self.late, self.swing, self.chance = late, swing, random.Random(0)
        self.seen: set[float] = set()

    def read(self, programs: Any, *where: Any, **more: Any) -> list[Reading]:
        factors = []
        for program in programs:
            again = self.ms(program) in self.seen
            self.seen.add(self.ms(program))
            factors.append((self.late if again else 1) + self.chance.uniform(0, self.swing))
        found = super().read(programs, *where, **more)
        pairs = zip(found, factors, strict=True)
        return [Reading(tuple(ms * factor for ms in reading.times)) for reading, factor in pairs]


@pytest.mark.parametrize("passes", [BOTH[:1], BOTH], ids=str)
@pytest.mark.parametrize(
    ("late", "swing", "share", "wrong"),
    [(1.05, 0.0, 0.6, 0.7), (1.2, 0.0, 0.15, 1.0), (1.6, 0.0, 0.6, 1.0), (1.1, 0.15, 0.15, 0.7)],
)
def test_a_result_that_is_slower_than_it_was_in_the_search_is_made_smaller(
    passes, late, swing, share, wrong
):
    limit = share * took(plain(), Formula(constant=0.01))
    small = shrunk(passes, Unsteady(late, swing, constant=0.01, wrong=wrong), latency_ms=limit)
    assert took(small, Formula(constant=0.01)) * late <= limit * (1 + 1e-9)
    assert gfx.report(small).timings[0].after <= limit * (1 + 1e-9)


def test_only_where_the_smallest_net_is_too_slow_a_budget_is_refused():
    smallest = shrunk(BOTH[:1], Formula(constant=0.01), latency_ms=0.0826)
    least = took(smallest, Formula(constant=0.01))
    limit = 1.001 * 1.2 * least  # the smallest keeps it even where it is slowest
    small = shrunk(BOTH[:1], Unsteady(1.2, constant=0.01), latency_ms=limit)
    assert took(small, Formula(constant=0.01)) * 1.2 <= limit
    with pytest.raises(BudgetError, match=r"at its smallest .* too much"):
        shrunk(BOTH[:1], Unsteady(1.2, constant=0.01), latency_ms=1.1 * least)
