"""Searches over the partitions of all workers: whoever is asked asks the owners of the others."""
