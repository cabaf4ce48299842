"""Spilled segments: Parquet objects in an object store, and the catalog that is derived from them."""
