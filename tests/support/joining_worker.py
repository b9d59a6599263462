"""Judges nets of the search of a run, beside it: FOLDER STORAGE SECONDS, which each batch takes."""

import sys
import time
from typing import Any


def main() -> None:
    """Joins the search, slowly, and prints how many nets there are and whether it has ended."""
    import gfx
    from gfx.train.search.supernet_judge import SupernetJudge
    from support.training_runs import pairs

    folder, storage, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    judge = SupernetJudge.judge

    def slowly(self: SupernetJudge, nets: Any, examples: Any = None) -> Any:
        time.sleep(seconds)
        return judge(self, nets, examples)

    SupernetJudge.judge = slowly
    found = gfx.search(folder, storage=storage, data=pairs(32), run=sys.argv[4])
    print(found.judged, found.finished)


if __name__ == "__main__":
    main()
