"""Steps the masks and penalties of a model while a user's own loop trains it."""

from gfx.train.schedule.mask_schedule import Schedule, schedule

__all__ = ["Schedule", "schedule"]
