"""The hot store: a shard a partition, one DuckDB file a segment, rows and offset in one transaction."""
