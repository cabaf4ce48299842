"""Metrics and traces, by OpenTelemetry; docs/telemetry.md lists them.

    setup.py        providers, exporters, the text of GET /metrics
    tracing.py      spans, and the context that travels in headers
    following.py    an event's way through a worker: from its record to the commit, and to the spilled segment
    searches.py     figures of searches
    lag.py          how far behind the log a worker is, in records and in seconds
    catalog.py      every metric: name, unit, meaning
    observed.py     those that are read from totals when somebody asks; nothing on the ingest path knows of them
    recorded.py     those that are measured where it happens: commits, freshness

Imports of the SDK are inside functions: a command that exports nothing pays for the API alone.
"""
