"""Steps the masks and penalties of a model in the user's own training loop."""

from gfx.train.schedule.mask_schedule import Schedule, schedule

__all__ = ["Schedule", "schedule"]
