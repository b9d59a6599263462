"""Joins a search: `search_worker.py STORAGE EVALUATIONS LOG`; notes each net that it judges."""

import sys
import warnings
from pathlib import Path


def main() -> None:
    """Judges until the search has ended."""
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    from gfx.train.search.optuna_ledger import OptunaLedger
    from gfx.train.search.run_search import run_search
    from gfx.train.search.search_fields import Search
    from support.search_cases import FormulaJudge, small_space

    storage, count, log = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    space = small_space(0.5)
    judge = FormulaJudge(space, pause=0.03)
    ledger = OptunaLedger(storage, {"score": "l1"}, space, count)
    print("ready", flush=True)
    trials = run_search(space, judge, Search(evaluations=count, batch=4), ledger, seed=1)
    log.write_text(f"{len(trials)}")


if __name__ == "__main__":
    main()
