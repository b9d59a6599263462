"""Example inputs: given, bound to a signature, or inferred."""
