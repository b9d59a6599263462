"""Starts workers of a search: `search_worker.py STORAGE EVALUATIONS`.

For each line on its input, a file, a process begins that joins the search, and its number is
printed; how many nets there were in the end goes to the file. It ends when all of them have.
"""

import os
import sys
import warnings
from pathlib import Path


def main() -> None:
    """Starts workers."""
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    from gfx.train.search.optuna_ledger import OptunaLedger
    from gfx.train.search.run_search import run_search
    from gfx.train.search.search_fields import Search
    from support.search_cases import FormulaJudge, small_space

    storage, count = sys.argv[1], int(sys.argv[2])
    space = small_space(0.5)
    asked = Search(by="evolution", evaluations=count, batch=4, population=12)
    for line in sys.stdin:
        worker = os.fork()
        if worker:
            print(worker, flush=True)
            continue
        ledger = OptunaLedger(storage, {"score": "l1"}, space, count)
        trials = run_search(space, FormulaJudge(space, pause=0.03), asked, ledger, seed=1)
        Path(line.strip()).write_text(f"{len(trials)}")
        os._exit(0)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
