"""What is derived, made again from what it is derived of: a shard, the Redis tables. The catalog: tiers/rebuild.py."""
