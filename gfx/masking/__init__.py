"""Where masks of channels go, and what channels are worth."""
