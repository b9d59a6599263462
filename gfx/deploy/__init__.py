"""How a program runs on a machine: export, timing, latency, benchmarks."""
