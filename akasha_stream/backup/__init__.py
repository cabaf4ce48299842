"""A backup of what can't be derived: settings, topics as they are in Kafka, offsets, and which objects there were.

model.py         what it holds
archive.py       the file: versioned, with its own checksum
collect.py       what there is now, in the same form
without_secrets.py  settings files that may leave the machine
spans.py         ranges of offsets, added and subtracted
compare.py       a backup against what there is now: what is lost, damaged, different
restore.py       topics and files put back
place.py         where a backup is kept: a path, or the object store
"""
