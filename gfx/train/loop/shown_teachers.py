"""Shows a student what its teachers make of a batch."""

from collections.abc import Callable

from gfx.train.loop.player import Player
from gfx.train.loop.teacher import Teacher, TeacherValues
from gfx.train.tasks import Batch

__all__ = ["shown_to"]


def shown_to(student: Player, teacher: Teacher | Player) -> Callable[[Batch], TeacherValues]:
    """Returns what a teacher shows to a student: a frozen one, or a player that learns online."""

    def show(batch: Batch) -> TeacherValues:
        if isinstance(teacher, Player):
            return teacher.shown(batch, lambda image: student.scores(batch, image))
        with student.devices.autocast(student.fit.precision):
            image, features = teacher.show(batch)
        return TeacherValues(image, features, lambda x: student.scores(batch, x))

    return show
