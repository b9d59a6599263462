"""Judges the model as it was given, on what the students are judged on: once a run, at its end.

1. What is compared with the model itself says nothing of it, and is left out: without ground truth,
   all but distances to real images.
2. The scores are sealed as the files of stages are; others are not believed, but made anew.
3. A model that cannot be judged, as one whose images are not finite, is told of; the run has ended.
"""

from typing import Any

from gfx.errors import InputError
from gfx.metrics.metric_name import PAIRED
from gfx.progress import stage as report_stage
from gfx.train.runs.run_system import SystemRun
from gfx.train.systems.fit_fields import GIVEN

__all__ = ["judge_given"]

NAME = "given"  # .json, in the folder of the run


def judge_given(run: SystemRun) -> None:
    """Adds the scores of the model as it was given to those of the stages, as their first."""
    trained = [stage for stage in run.system.stages if stage.fit is not None]
    if not trained:
        return
    found = run.folder.noted(NAME)
    if run.devices.any(found is None):
        report_stage("judging the model as it was given")
        found = _judged(run, trained[-1])
        if run.devices.main:
            run.folder.note(NAME, found)
    assert found is not None
    run.say(found["said"])
    if found["scores"]:
        run.scores = {GIVEN: found["scores"], **run.scores}


def _judged(run: SystemRun, stage: Any) -> dict[str, Any]:
    judge = run.evaluation(stage)
    given = run.model.to(run.devices.device)
    is_alone = run.held.truths is None and judge.teacher is given
    try:
        scores = judge.judge(given).scores
    except InputError as error:  # rule 3
        return {"scores": {}, "said": [f"the model as it was given is not judged: {error}"]}
    return {
        "scores": {
            name: score.value
            for name, score in scores.items()
            if not (is_alone and name in PAIRED)  # rule 1
        },
        "said": [],
    }
