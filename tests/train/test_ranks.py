"""Several processes train as one does with a batch as large as all of theirs."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.training_runs import ranked

pytest.importorskip("accelerate")

WORKER = Path(__file__).parents[1] / "support" / "rank_worker.py"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("kind", "rows_of"), [("distilled", 11), ("cycled", 11)])
def test_two_processes_have_the_curves_of_one_with_twice_the_batch(kind, rows_of, tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), "2", tmp_path / "two", str(port), kind],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        said = process.communicate(timeout=240)[0]
        assert process.returncode == 0, said[-3000:]
    whole = ranked(kind, 4, run=tmp_path / "one")
    lines = (tmp_path / "two" / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(whole.history) == rows_of
    for row, wanted in zip(rows, whole.history, strict=True):
        assert row.keys() == wanted.keys()
        for key, value in row.items():
            assert value == (
                value if isinstance(value, str) else pytest.approx(wanted[key], rel=2e-3)
            )
    first, second = (torch.load(tmp_path / "two" / f"rank{n}.pt") for n in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name])
        torch.testing.assert_close(value, whole.model.state_dict()[name], rtol=1e-2, atol=1e-4)
