"""What passes are made of: scores, selections, factorizations, refits, masks, taps."""
