"""Reading settings and topic files: find, interpolate, merge, validate, and say in one line what is wrong.

interpolation.py  ${VAR:default} in a scalar
documents.py      one YAML file → plain values and the line of every key
environment.py    AKASHA_<SECTION>__<KEY> variables
explain.py        a pydantic error → one line: place, key, what was found, what is allowed
places.py         which file is read, and where the shipped ones are
load.py           all of it together: defaults < file < overlay < environment < overrides
storage.py        settings/akasha-storage.yml, whose keys are the names of its backends
show.py           settings without their secrets
"""
