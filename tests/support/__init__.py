"""What tests share: random generators, oracles, patterns, stand-ins."""
