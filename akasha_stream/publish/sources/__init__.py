"""What `akasha-stream publish` can read: Parquet, JSON lines, Session-Buddy databases."""
