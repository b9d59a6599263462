"""Laws for anyone's pass, and programs to try them on."""

from gfx.testing.laws import Summary, check_pass, sample_programs

__all__ = ["Summary", "check_pass", "sample_programs"]
