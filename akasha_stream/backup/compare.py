"""A backup against what there is now: what is lost, damaged, different. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from akasha_stream.backup.model import Content, LogState, ObjectState, TopicState
from akasha_stream.backup.spans import Span, minus, size, union
from akasha_stream.incarnation import Incarnation
from akasha_stream.tiers.keys import LogId, SegmentKey, parse_state
from akasha_stream.topics.difference import BrokerTopic, differences

type Severity = Literal["lost", "damaged", "topics", "note"]
"""lost: no restore brings it back. damaged: an object is missing or changed. topics: Kafka's differ. note: no fault."""


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    subject: str
    """A partition, an object, a topic, a setting."""
    detail: str
    offsets: tuple[Span, ...] = ()
    """Of the partition's log: what is lost, or in no object."""
    rows: int | None = None
    """Of the backup's segments in these offsets; None: they were in none."""


@dataclass(slots=True)
class Comparison:
    """Segments are counted by what became of them; `added`: since the backup."""

    findings: list[Finding] = field(default_factory=list)
    same: int = 0
    moved: int = 0
    """To another tier."""
    rewritten: int = 0
    """Compacted, or without the rows of a forgotten system: another object has their offsets."""
    missing: int = 0
    changed: int = 0
    added: int = 0

    def of(self, severity: Severity) -> list[Finding]:
        return [each for each in self.findings if each.severity == severity]

    @property
    def ok(self) -> bool:
        return all(each.severity == "note" for each in self.findings)

    def add(
        self, severity: Severity, subject: str, detail: str, offsets: Iterable[Span] = (), rows: int | None = None
    ) -> None:
        self.findings.append(Finding(severity, subject, detail, tuple(offsets), rows))


type _Segments = Mapping[SegmentKey, ObjectState]


def compare(old: Content, new: Content) -> Comparison:
    """`old`: the backup's; `new`: collected now."""
    found = Comparison()
    was, is_ = _segments(old), _segments(new)
    _logs(found, old, new, was, is_)
    _objects(found, was, is_, _kafka_spans(new))
    _beside(found, old, new)
    _topics(found, old, new)
    _settings(found, old, new)
    return found


def _segments(content: Content) -> dict[SegmentKey, ObjectState]:
    """The readable one, of an object that is in two tiers."""
    found: dict[SegmentKey, ObjectState] = {}
    for each in content.objects:
        key = SegmentKey.parse(each.path) if each.kind == "segment" else None
        if key is not None and (key not in found or found[key].problem is not None):
            found[key] = each
    return found


def _stored(segments: _Segments, log: LogId) -> list[Span]:
    return union((key.start, key.end) for key, each in segments.items() if key.log == log and each.problem is None)


def _log_id(topic: TopicState, partition: int) -> LogId:
    return LogId(topic.name, Incarnation(topic.cluster_id, topic.topic_id), partition)


def _kafka_spans(content: Content) -> dict[LogId, Span]:
    return {_log_id(topic, log.partition): (log.first, log.end) for topic in content.topics for log in topic.logs}


def _logs(found: Comparison, old: Content, new: Content, was: _Segments, is_: _Segments) -> None:
    """What was in Kafka or in the object store, and is in neither."""
    before, now = _kafka_spans(old), _kafka_spans(new)
    others = {topic.name for topic in old.topics if topic.role != "embeddings"}
    states = {_log_id(t, log.partition): log for t in new.topics if t.role == "embeddings" for log in t.logs}
    for log in sorted({*before, *(key.log for key in was)}, key=lambda each: (each.topic, each.partition)):
        had = union([*_stored(was, log), before.get(log, (0, 0))])
        lost = minus(had, [*_stored(is_, log), now.get(log, (0, 0))])
        if log.topic in others:
            # Retention and `dlq purge` remove from its start, on purpose.
            lost = lost if log not in now else minus(lost, [(0, now[log][0])])
        elif log in states:
            on_disk = _on_disk(states[log], _stored(is_, log))
            if safe := minus(lost, minus(lost, [on_disk])):
                lost = minus(lost, safe)
                found.add(
                    "note",
                    f"{log.topic}/{log.partition}",
                    f"offsets {_words(safe)} are on a worker's disk alone: not in Kafka any more, and not spilled",
                    safe,
                )
        if lost:
            rows = [
                s.rows or 0 for key, s in was.items() if key.log == log and minus([(key.start, key.end)], lost) == []
            ]
            why = _why(log, lost, now, new)
            found.add("lost", f"{log.topic}/{log.partition}", why, lost, sum(rows) if rows else None)


def _on_disk(state: LogState, stored: Sequence[Span]) -> Span:
    """What of the log only the owner's files have."""
    if state.stored is None:
        return 0, 0
    return (stored[-1][1] if stored else 0), state.stored


def _why(log: LogId, lost: Sequence[Span], now: Mapping[LogId, Span], new: Content) -> str:
    what = f"offsets {_words(lost)}, {size(lost)} records at most: "
    if not new.kafka:
        return f"{what}they were in Kafka alone"
    if log in now:
        first, end = now[log]
        reason = f"Kafka's log begins at {first}" if lost[0][0] < first else f"Kafka's log ends at {end}"
        return f"{what}{reason}, and no object has them"
    if any(each.name == log.topic for each in new.topics):
        return f"{what}{log.topic} is another log now, and no object has them"
    return f"{what}there is no topic {log.topic}, and no object has them"


def _words(spans: Sequence[Span], most: int = 5) -> str:
    shown = ", ".join(f"[{start}, {end})" for start, end in spans[:most])
    return shown if len(spans) <= most else f"{shown} and {len(spans) - most} more"


def _objects(found: Comparison, was: _Segments, is_: _Segments, now: Mapping[LogId, Span]) -> None:
    spans = {log: _stored(is_, log) for log in {key.log for key in is_}}
    for key, before in was.items():
        after = is_.get(key)
        if after is not None:
            if after.problem is not None:
                found.changed += 1
                found.add("damaged", after.path, f"tier {after.tier}: {after.problem}")
            elif _changed(before, after):
                found.changed += 1
                found.add("damaged", after.path, f"tier {after.tier}: is not the object that it was")
            elif after.tier != before.tier:
                found.moved += 1
            else:
                found.same += 1
            continue
        gone = minus([(key.start, key.end)], spans.get(key.log, []))
        if not gone:
            found.rewritten += 1
            continue
        found.missing += 1
        where = "; Kafka still has them" if not minus(gone, [now.get(key.log, (0, 0))]) else ""
        found.add(
            "damaged", before.path, f"is missing, and with it the offsets {_words(gone)}{where}", gone, before.rows
        )
    found.added = len(is_.keys() - was.keys())


def _changed(before: ObjectState, after: ObjectState) -> bool:
    """The etag alone says nothing: a copy in another store has another."""
    known = before.fingerprint is not None and after.fingerprint is not None
    return before.size != after.size or (known and before.fingerprint != after.fingerprint)


def _beside(found: Comparison, old: Content, new: Content) -> None:
    """The ledger of forgotten systems, and what shards know beside their rows."""
    ledger = {each.path: each for each in new.objects if each.kind == "forgotten"}
    for each in old.objects:
        if each.kind == "forgotten" and (each.path not in ledger or _changed(each, ledger[each.path])):
            found.add("damaged", each.path, "says that a source system is forgotten, and is missing or changed")
    states = _last_states(new)
    for folder, end in _last_states(old).items():
        if states.get(folder, -1) < end:
            found.add("damaged", f"{folder}/", f"windows and counters as of offset {end} are missing: they begin anew")


def _last_states(content: Content) -> dict[str, int]:
    """Folder of a log → offset of its newest state."""
    found: dict[str, int] = {}
    for each in content.objects:
        end = parse_state(each.path) if each.kind == "state" else None
        if end is not None:
            folder = each.path.rpartition("/")[0]
            found[folder] = max(end, found.get(folder, 0))
    return found


def _topics(found: Comparison, old: Content, new: Content) -> None:
    if not new.kafka:
        return
    for topic in old.topics:
        is_ = next((each for each in new.topics if each.name == topic.name), None)
        if is_ is None:
            found.add("topics", topic.name, "there is no such topic; akasha-stream backup restore creates it")
            continue
        if (is_.cluster_id, is_.topic_id) != (topic.cluster_id, topic.topic_id):
            found.add("note", topic.name, "is another log than at the time of the backup")
        there = BrokerTopic(is_.name, is_.partitions, is_.replication_factor, is_.in_force)
        plan = differences([topic], {is_.name: there})
        for change in plan.changes:
            found.add("topics", topic.name, f"{change.key} is {change.found}, and was {change.wanted}")


def _settings(found: Comparison, old: Content, new: Content) -> None:
    was, is_ = dict(_flat(old.settings)), dict(_flat(new.settings))
    for key in sorted(was.keys() | is_.keys()):
        # auth.key is the caller's own: whoever compares may have another one.
        if was.get(key) != is_.get(key) and key != "auth.key":
            found.add("note", key, f"the setting is {is_.get(key)}, and was {was.get(key)}")


def _flat(values: Mapping[str, object], above: str = "") -> Iterable[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict) and not above:
            yield from _flat(value, f"{key}.")
        else:
            yield f"{above}{key}", value
