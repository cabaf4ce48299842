"""Searching: planning, candidates, merging, and the engine over them."""
