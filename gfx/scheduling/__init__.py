"""Steps the masks and penalties of a model while a user's own loop trains it."""

from gfx.scheduling.stepping import Schedule, schedule

__all__ = ["Schedule", "schedule"]
