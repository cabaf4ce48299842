"""Benchmarks: one file a question. `uv run python -m benchmarks.NAME --json` prints one object on the last line."""
