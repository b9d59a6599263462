"""What `search:` says is read, written and checked."""

import json

import pytest

from gfx.errors import RecipeError
from gfx.train.search.search_fields import read_search


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"by": "evolutoin"}, "search: by: "),
        ({"evaluation": 5}, "unknown field 'evaluation'; did you mean 'evaluations'"),
        ({"evaluations": 0}, "search: evaluations"),
        ({"score": "fid"}, "search: score: metric 'fid': FID is"),
        ({"budget": {"mac": 0.1}}, "search: budget: unknown measure 'mac'"),
        ({"pick": "smallest"}, "search: pick: 'smallest' says no net; give best, a cost as"),
        ({"parents": 0}, "search: parents"),
        ({"halving": 1}, "search: halving"),
        (7, "search: a mapping is expected"),
    ],
)
def test_what_a_search_cannot_be_is_said(given, said):
    with pytest.raises(RecipeError, match=said):
        read_search(given)


def test_a_search_is_written_with_its_defaults():
    asked = read_search({"by": "evolution", "budget": {"macs": "2.67G"}, "pick": "macs=2.5G"})
    assert read_search(json.loads(json.dumps(asked.spec()))) == asked
    assert read_search("random").by == "random"
