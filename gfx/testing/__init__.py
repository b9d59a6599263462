"""Tests anyone's pass: laws, and programs to run them on."""

from gfx.testing.laws import Summary, check_pass, sample_programs

__all__ = ["Summary", "check_pass", "sample_programs"]
