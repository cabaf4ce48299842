"""What an operator does with dead letters: read them, publish them again, remove them.

A letter that was published again is marked in its own topic, so that whoever looks next knows.
"""
