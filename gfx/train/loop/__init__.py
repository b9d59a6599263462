"""The training loop that all systems share: players, teachers, devices, steps."""
