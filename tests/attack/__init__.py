"""Attacks on every door of gfx: what a stranger, a crash or a full disk may do to it.

An attack is a kind and a seed: the same two give the same attack. It passes if gfx does what was
asked and the result holds, or refuses in one paragraph of its own; it succeeds (a fault of gfx) if
it gets a traceback, runs code of a file, leaves part of an output, hangs, or ends the process.

    python -m attack --minutes 60              fresh seeds, a line for each attack that succeeds
    python -m attack --kind archive --seed 7   one attack again
"""
