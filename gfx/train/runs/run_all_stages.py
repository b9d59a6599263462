"""Runs the stages of a system in their order, each from what is finished or the last checkpoint.

A finished stage is skipped; its net is read from its file, also by the run that wrote it: what
follows is the same either way.
"""

from gfx.train.runs.checkpoint_files import CheckpointFiles
from gfx.train.runs.given_scores import judge_given
from gfx.train.runs.logbook import Logbook
from gfx.train.runs.run_stage import StageRun
from gfx.train.runs.run_system import SystemRun

__all__ = ["run_all_stages"]


def run_all_stages(run: SystemRun) -> None:
    """Runs the stages that are not finished; `run.stopped` tells that the time was over.

    Raises: GfxError of the kind of what went wrong; what is finished stays.
    """
    run.book = Logbook(
        run.folder.path,
        run.settings.log if run.devices.main else (),
        writes=run.devices.main,
    )
    try:
        run.show()
        for number, stage in enumerate(run.system.stages):
            ended = run.folder.finished(number, stage.name)
            if ended is None:
                ended = StageRun(run, number, stage).run()
            if ended is None:
                run.stopped = True
                run.show()
                return
            if run.devices.main:  # also those of a run that was killed before it did
                CheckpointFiles(run.folder.checkpoints, number).clear()
            run.devices.wait()
            if not ended:  # of a process that waited for the search of another
                ended = run.folder.finished(number, stage.name) or {}
            run.show()
            run.take(number, stage, ended)
        judge_given(run)
        run.show()
    finally:
        run.book.close()
        run.say(run.book.trackers.said)
