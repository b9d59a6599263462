"""Budgets: how they are read, refused, met and missed."""

import math

import pytest

from gfx.costing import Budget, Cost, Macs, check_spec, parse_budget
from gfx.errors import BudgetError, RecipeError

WHOLE = Cost(Macs(1000, 2000, 3000), 100, 400, 4096)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, []),
        ({"macs": 0.5}, [("macs", "exact", 500)]),
        ({"macs": {"limit": 0.5, "convention": "output"}}, [("macs", "output", 1000)]),
        (
            {"macs": {"limit": "2.67G", "convention": "output+norm"}},
            [("macs", "output+norm", 2.67e9)],
        ),
        ({"macs": "2.67g"}, [("macs", "exact", 2.67e9)]),
        ({"params": 1e6}, [("params", "exact", 1e6)]),
        ({"params": "1e6"}, [("params", "exact", 1e6)]),  # YAML reads 1e6 as text
        ({"params": 0.5}, [("params", "exact", 50)]),
        ({"params": 1}, [("params", "exact", 100)]),
        ({"param_bytes": "1.5 KB"}, [("param_bytes", "exact", 1500)]),
        ({"peak_activation_bytes": {"limit": "4K"}}, [("peak_activation_bytes", "exact", 4000)]),
        ({"macs": 0.5, "params": 0.25}, [("macs", "exact", 500), ("params", "exact", 25)]),
    ],
    ids=str,
)
def test_budgets_are_read(spec, expected):
    check_spec(spec)
    found = parse_budget(spec, WHOLE)
    assert [(b.measure, b.convention, b.limit) for b in found] == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (0.5, r"budget: 0.5 is no mapping; write for example \{macs: 0.5\}"),
        ({}, r"budget: \{\} is no mapping"),
        ({"mac": 0.5}, r"budget: unknown measure 'mac'; did you mean 'macs'\?"),
        ({"latency": 3}, "budget: unknown measure 'latency'; known: macs, params, param_bytes"),
        ({"macs": {"limit": 1, "convention": "outptu"}}, r"macs: unknown convention 'outptu'; did"),
        ({"macs": {"limits": 1}}, r"budget: macs: unknown key 'limits'; did you mean 'limit'\?"),
        ({"macs": {"convention": "output"}}, r"budget: macs has no limit; write \{macs: \{limit"),
        ({"params": {"limit": 1, "convention": "exact"}}, "params: unknown key 'convention'"),
        ({"macs": -1}, "budget: macs is -1, which is no positive number; write a fraction"),
        ({"macs": 0}, "budget: macs is 0, which is no positive number"),
        ({"macs": True}, "budget: macs is True, which is no positive number"),
        ({"macs": math.nan}, "budget: macs is nan, which is no positive number"),
        ({"macs": math.inf}, "budget: macs is inf, which is no positive number"),
        ({"macs": "half"}, "budget: macs is 'half', which is no positive number"),
        ({"macs": "2.6.7G"}, "budget: macs is '2.6.7G', which is no positive number"),
        ({"macs": "."}, r"budget: macs is '\.', which is no positive number"),
        ({"macs": "50%"}, "budget: macs is '50%', which is no positive number"),
        ({"macs": "16MB"}, "budget: macs is '16MB', which is no positive number"),
        ({"macs": None}, "budget: macs is None, which is no positive number"),
        ({3: 0.5}, "budget: unknown measure 3"),
    ],
    ids=str,
)
def test_a_budget_that_says_nothing_is_refused(spec, message):
    with pytest.raises(RecipeError, match=message):
        check_spec(spec)
    with pytest.raises(RecipeError, match=message):
        parse_budget(spec, WHOLE)


def test_a_fraction_of_nothing_is_refused():
    with pytest.raises(RecipeError, match=r"budget: macs \(exact\) of the model is 0, a fraction"):
        parse_budget({"macs": 0.5}, Cost(Macs(), 0, 0, 0))


@pytest.mark.parametrize("fields", [{"measure": "mac"}, {"convention": "both"}, {"limit": 0}])
def test_a_budget_checks_its_fields(fields):
    with pytest.raises(RecipeError, match="budget: "):
        Budget(**{"limit": 1, **fields})


def test_a_budget_that_is_met_passes():
    Budget(limit=1000).check(WHOLE)
    assert Budget(limit=1, convention="output+norm").value(WHOLE) == 3000
    assert Budget(limit=1, measure="param_bytes").value(WHOLE) == 400


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            Budget(limit=35.3e9),
            r"^macs \(exact\) is 36.50 G and the limit 35.30 G: it exceeds the budget by 1.20 G"
            r" \(3.4 %\); remove more, or raise the budget$",
        ),
        (
            Budget(limit=1e9, convention="output"),
            r"macs \(output\) is 40.00 G and the limit 1.00 G",
        ),
        (Budget(measure="params", limit=50), r"^params is 100 and the limit 50: .* 50 \(100.0 %\)"),
        (Budget(measure="param_bytes", limit=100), "param_bytes is 400 B and the limit 100 B"),
    ],
)
def test_a_budget_that_is_not_met_names_the_shortfall(budget, message):
    cost = Cost(Macs(36_500_000_000, 40_000_000_000, 41_000_000_000), 100, 400, 4096)
    with pytest.raises(BudgetError, match=message):
        budget.check(cost)
