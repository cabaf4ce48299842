"""A data directory without its worker: written and searched by one process, handed over to Kafka by the next worker.

log.py        LocalLog: what is written meanwhile, a shard of its own beside those of the partitions
store.py      LocalStore: the partitions' shards with the local log laid over them, as a search sees them
notice.py     the file by which a running worker says where it answers
hand_over.py  what a starting worker does with a local log that it finds
access.py     how a program reaches the data: through the worker, or through the directory
"""
