"""Predicts the milliseconds of a program at other widths, from measurements on this machine."""

__all__: list[str] = []
