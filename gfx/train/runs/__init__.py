"""Runs of systems: the folder of a run, its checkpoints and logs, and the stages in their order."""
