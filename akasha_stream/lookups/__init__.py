"""The Redis tables: where each identity lives, counters per source system, which workers there are. All derived."""
