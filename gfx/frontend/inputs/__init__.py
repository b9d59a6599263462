"""Binds example inputs to a signature, or infers them."""
