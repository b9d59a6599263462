"""Runs programs on a machine: export, timing, latency, benchmarks."""
