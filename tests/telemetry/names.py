"""What Prometheus calls a metric, and what a scrape holds; as its text format and OpenTelemetry's mapping say."""

from __future__ import annotations

import re

from akasha_stream.telemetry.catalog import Metric

UNITS = {"s": "_seconds", "By": "_bytes"}


def prometheus_name(metric: Metric) -> str:
    unit = UNITS.get(metric.unit, "")
    total = "_total" if metric.kind == "counter" else ""
    return re.sub(r"[^a-zA-Z0-9]", "_", metric.name) + unit + total


def label(attribute: str) -> str:
    return attribute.replace(".", "_")


def families(text: str) -> dict[str, str]:
    """name → type, of each metric that the text has samples of."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    sampled = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"^([a-z_:]+)[{ ]", text, re.MULTILINE)}
    return {name: kind for name, kind in types.items() if name in sampled}


def series(text: str, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """labels → value"""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {frozenset(re.findall(r'(\w+)="([^"]*)"', labels)): float(value) for labels, value in found}


def value(text: str, name: str, **labels: str) -> float:
    """Of the series with these labels, summed. Fails where there is none."""
    found = [number for has, number in series(text, name).items() if set(labels.items()) <= has]
    assert found, f"no {name} with {labels}"
    return sum(found)
