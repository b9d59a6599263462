"""Runs the shell: `python -m gfx`, so that `torchrun -m gfx inspect ...` works."""

from gfx.cli import main

if __name__ == "__main__":
    main()
