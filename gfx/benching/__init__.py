"""Measures models side by side: latency, throughput, memory, and where the time goes."""

__all__: list[str] = []
