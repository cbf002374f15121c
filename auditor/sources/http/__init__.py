"""Ranged reads over a network: which hosts, what is asked, what an answer means, how often."""
