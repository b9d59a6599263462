"""Searches subnets of a supernet: exact prices, judged values, and a front that is judged again."""
