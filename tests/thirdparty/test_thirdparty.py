import os
import re

import pytest

from support.coverage_rows import measure
from thirdparty import CASES, REFUSED, SLOW
from thirdparty.cases import Absent, Case, build
from thirdparty.stand_in import stand_in_for_torchvision


# warnings of other people's packages are not ours to turn into errors
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_published_generator_is_pruned_or_refused_by_its_reason(case: Case) -> None:
    if case.name in SLOW and "GFX_SLOW" not in os.environ:
        pytest.skip("takes long: set GFX_SLOW=1, or see docs/coverage.md")
    try:
        model, inputs = build(case)
    except Absent as absent:
        pytest.skip(str(absent))
    row = measure(case.name, model, inputs, peer=False)
    if case.name in REFUSED:
        assert row.outcome.startswith("refused: ")
        assert re.search(REFUSED[case.name], row.outcome)
        return
    assert row.outcome in ("exact", "exact, and approximate in part")
    assert row.judged == "oracle"
    assert row.free > 0
    assert "opaque" not in row.frontend


def test_the_stand_in_offers_names_that_refuse_to_work() -> None:
    with stand_in_for_torchvision():
        try:
            from torchvision.models import ResNet
        except ImportError:
            pytest.skip("torchvision is there")
        if ResNet.__init__.__module__ != stand_in_for_torchvision.__module__:
            pytest.skip("torchvision is there")
        with pytest.raises(ImportError, match="ResNet of it is needed"):
            ResNet()
