"""Runs a system in one of several processes: `rank_worker.py RANK RANKS FOLDER PORT KIND`."""

import os
import sys
import warnings
from pathlib import Path

import torch


def main() -> None:
    """Joins the other processes, and runs."""
    rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": sys.argv[4],
        "ACCELERATE_USE_CPU": "true",
    }
    warnings.simplefilter("ignore")  # accelerate's own
    torch.set_num_threads(1)
    from support.training_runs import ranked

    made = ranked(sys.argv[5], 2, run=folder)
    torch.save(made.model.state_dict(), folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
