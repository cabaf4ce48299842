"""Records of our topics as lines: events decoded and redacted as a worker does it, letters, digests."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import orjson
from aiokafka import ConsumerRecord

from akasha_stream.dlq.letter import Mark, read
from akasha_stream.errors import UsageError
from akasha_stream.events.decode import Decoder
from akasha_stream.settings import Settings
from akasha_stream.times import rfc3339
from akasha_stream.topics.reader import TopicReader, as_record

type Topic = Literal["embeddings", "dlq", "digests"]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "embeddings": (
        "partition", "offset", "index", "time", "source_system", "event_id", "op", "created_at", "model", "metadata",
        "content", "error",
    ),
    "dlq": (
        "partition", "offset", "time", "reason", "detail", "origin", "source_system", "events", "bytes",
        "requeued_letter", "requeued_to",
    ),
    "digests": (
        "partition", "offset", "time", "source_system", "window_start", "window_end", "events", "coherence", "error",
    ),
}  # fmt: skip
"""What a line of each topic has, in this order."""

type Line = dict[str, object]
"""FIELDS of its topic; what does not apply is None. `time`: when Kafka took the record, RFC 3339."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: at the first record, behind the last, at an offset, at a time, or so many records back."""

    kind: Literal["start", "end", "offset", "time", "back"]
    value: int = 0
    partition: int | None = None
    """Of an offset: the one partition that is read."""

    async def offsets(self, reader: TopicReader) -> dict[int, int]:
        """Partition → offset. Raises UsageError for a partition that is not there, BrokerError."""
        if self.partition is not None and self.partition not in reader.partitions:
            raise UsageError(f"{reader.topic} has no partition {self.partition}, it has {len(reader.partitions)}")
        if self.kind == "end":
            return await reader.ends()
        if self.kind == "time":
            return await reader.at_time(self.value)
        firsts = await reader.beginnings()
        if self.kind == "start":
            return firsts
        ends = await reader.ends()
        if self.kind == "back":
            return {partition: max(firsts[partition], end - self.value) for partition, end in ends.items()}
        wanted = reader.partitions if self.partition is None else [self.partition]
        return {partition: min(max(self.value, firsts[partition]), ends[partition]) for partition in wanted}


class Lines:
    """Turns records of one topic into lines. `systems`: only these; empty: all."""

    def __init__(self, settings: Settings, topic: Topic, systems: Iterable[str] = ()) -> None:
        self._decoder = Decoder.of(settings)
        self._of = {"embeddings": self._events, "dlq": self._letters, "digests": self._digests}[topic]
        self._systems = frozenset(systems)

    def of(self, records: Sequence[ConsumerRecord]) -> Iterator[Line]:
        for line in self._of(records):
            if not self._systems or line["source_system"] in self._systems:
                yield line

    def _events(self, records: Sequence[ConsumerRecord]) -> Iterator[Line]:
        decoded = self._decoder.decode([as_record(record) for record in records])
        batch = decoded.batch
        lines: list[tuple[tuple[int, int], Line]] = []
        for row in range(len(batch)):
            record = records[int(decoded.record_of[row])]
            index = int(batch.index[row])
            line = _line("embeddings", record)
            line |= {
                "index": index,
                "source_system": batch.source_system[row].as_py(),
                "event_id": batch.event_id[row].as_py(),
                "op": "delete" if batch.delete[row] else "upsert",
                "created_at": rfc3339(datetime.fromtimestamp(int(batch.created_at[row]) / 1e6, UTC)),
                "model": batch.model[row].as_py(),
                "metadata": orjson.loads(batch.metadata[row].as_py()),
                "content": batch.content[row].as_py(),
            }
            lines.append(((record.offset, index), line))
        for letter in decoded.dead:
            record = next(each for each in records if each.offset == letter.record.offset)
            line = _line("embeddings", record)
            line |= {
                "index": letter.index,
                "source_system": None if record.key is None else record.key.decode(errors="replace"),
                "error": f"{letter.reason}: {letter.detail}",
            }
            lines.append(((record.offset, letter.index or 0), line))
        for _, line in sorted(lines, key=lambda each: each[0]):
            yield line

    def _letters(self, records: Sequence[ConsumerRecord]) -> Iterator[Line]:
        for record in records:
            line = _line("dlq", record)
            match read(as_record(record)):
                case Mark() as mark:
                    line |= {"requeued_letter": str(mark.letter), "requeued_to": mark.to}
                case letter:
                    line |= {
                        "reason": letter.reason,
                        "detail": letter.detail,
                        "origin": letter.origin,
                        "source_system": letter.system,
                        "events": letter.events,
                        "bytes": letter.size,
                    }
            yield line

    def _digests(self, records: Sequence[ConsumerRecord]) -> Iterator[Line]:
        for record in records:
            line = _line("digests", record)
            try:
                body = orjson.loads(record.value or b"")
                line |= {
                    name: body[name] for name in ("source_system", "window_start", "window_end", "events", "coherence")
                }
            except (ValueError, LookupError, TypeError) as error:
                line["error"] = f"no digest of ours: {error}"
            yield line


def checked_format(topic: Topic, template: str) -> str:
    """Raises UsageError for a template that names what a line has not."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--format: {error}; write fields as {{content}}, and {{{{ for a brace") from error
    for _, name, spec, conversion in parts:
        if name is not None and (name not in FIELDS[topic] or spec or conversion):
            raise UsageError(f"--format: there is no {{{name}}} in {topic}; there are: {', '.join(FIELDS[topic])}")
    return template


def formatted(line: Line, template: str) -> str:
    """One line of text. A bad record's error stands in for the content."""
    shown = {name: "-" if value is None else _text(value) for name, value in line.items()}
    if line.get("error") is not None and "content" in shown:
        shown["content"] = f"BAD {line['error']}"
    if line.get("requeued_letter") is not None:
        shown |= {"reason": "requeued", "detail": f"{line['requeued_letter']} → {line['requeued_to']}"}
    return " ".join(template.format_map(shown).split("\n"))


def shortened(topic: Topic, line: Line) -> str:
    """One line that leaves room for what matters in 80 columns: times to the second, long ids cut."""
    place = f"{line['partition']}:{line['offset']}"
    if line.get("index") is not None:
        place += f"#{line['index']}"
    clock = str(line["time"])[11:19]
    match topic:
        case "embeddings":
            who = f"{line['source_system'] or '-'}/{_cut(line['event_id'], 9)}"
            op = "DELETE " if line["op"] == "delete" else ""
            what = f"BAD {line['error']}" if line["error"] is not None else f"{op}{line['content'] or ''}"
        case "dlq" if line["requeued_letter"] is not None:
            who, what = "requeued", f"{line['requeued_letter']} → {line['requeued_to']}"
        case "dlq":
            who, what = (
                f"{line['reason']}",
                f"from {line['origin']}  {_cut(line['source_system'], 20)}  {line['detail']}",
            )
        case "digests":
            who = f"{line['source_system'] or '-'}"
            window = f"{str(line['window_start'])[:16]}…{str(line['window_end'])[11:16]}"
            what = f"BAD {line['error']}" if line["error"] is not None else f"{window}  {_counts(line['events'])}"
    return " ".join(f"{place:<9} {clock}  {who}  {what}".split("\n"))


def _cut(value: object, most: int) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _counts(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    flat = {name: sum(count.values()) if isinstance(count, dict) else count for name, count in value.items()}
    return ", ".join(f"{count} {name}" for name, count in flat.items() if count)


def _text(value: object) -> str:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)


def _line(topic: Topic, record: ConsumerRecord) -> Line:
    line: Line = dict.fromkeys(FIELDS[topic])
    time = datetime.fromtimestamp(max(0, record.timestamp) / 1000, UTC)
    line |= {
        "partition": record.partition,
        "offset": record.offset,
        "time": rfc3339(time, "milliseconds"),
    }
    return line
