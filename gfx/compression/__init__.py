"""Building blocks of passes: scores, selections, factorizations, refits, masks, taps."""
