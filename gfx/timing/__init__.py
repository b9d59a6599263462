"""Runs programs against the clock: backends, interleaved rounds, and whether noise decides."""

__all__: list[str] = []
