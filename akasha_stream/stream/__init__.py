"""The event path inside a worker: the Faust app, its ingest agent, windows, dead letters and offsets."""
