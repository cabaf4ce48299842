"""What the commands of `dlq` print."""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING

from akasha_stream.cli.figures import counted, moment, size

if TYPE_CHECKING:
    from akasha_stream.cli.context import Output
    from akasha_stream.dlq.ledger import Ledger
    from akasha_stream.dlq.letter import Letter, Mark
    from akasha_stream.dlq.purge import PurgePlan
    from akasha_stream.dlq.requeue import Requeued

_NAMED = 20


def show_list(out: Output, ledger: Ledger, limit: int) -> None:
    from akasha_stream.dlq.answers import plain

    shown = ledger.letters[-limit:] if limit else ledger.letters
    out.table(
        ("letter", "written", "reason", "from", "system", "size", "state"),
        [
            (
                letter.place,
                moment(letter.timestamp_ms)[5:19],
                letter.reason,
                letter.origin,
                letter.system[:24],
                size(letter.size),
                _state(letter, ledger.mark_of(letter)),
            )
            for letter in shown
        ],
        right=("size",),
    )
    reasons = Counter(letter.reason for letter in ledger.letters)
    words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    out.line(f"{len(ledger.letters):,} of {ledger.total:,} letters" + (f": {words}" if words else ""))
    if len(shown) < len(ledger.letters):
        out.line(f"Shown are the latest {len(shown)}; -n 0 shows all.")
    out.result(
        {
            "total": ledger.total,
            "matching": len(ledger.letters),
            "reasons": dict(reasons.most_common()),
            "letters": [plain(letter, ledger.mark_of(letter)) for letter in shown],
        }
    )


def _state(letter: Letter, mark: Mark | None) -> str:
    if mark is not None:
        return "requeued"
    return "died again" if letter.requeued_from is not None else ""


def show_one(out: Output, letter: Letter, mark: Mark | None, most: int | None) -> None:
    from akasha_stream.dlq.answers import plain

    rows = [
        ("reason", letter.reason),
        ("detail", letter.detail),
        ("written", moment(letter.timestamp_ms)),
        ("origin", f"{letter.origin_topic or '-'}/{letter.origin}"),
        ("events", letter.events),
        ("key", letter.system if letter.key is not None else "none"),
        *((f"header {name}", (content or b"").decode(errors="replace")) for name, content in letter.headers),
    ]
    if letter.origin_timestamp_ms is not None:
        rows.insert(4, ("appended", moment(letter.origin_timestamp_ms)))
    if mark is not None:
        rows.append(("requeued", f"{moment(mark.timestamp_ms)}, as {mark.to}"))
    out.table(("letter", str(letter.place)), rows)
    value = letter.value or b""
    if letter.left_out_bytes is not None:
        out.line(f"Its {letter.left_out_bytes:,} bytes did not fit into this topic; they are at {letter.origin} alone.")
    elif letter.value is None:
        out.line("It has no value.")
    else:
        shown = value[:most]
        out.line(f"value, {size(len(value))}:")
        for at in range(0, len(shown), 16):
            part = shown[at : at + 16]
            text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
            out.line(f"{at:08x}  {part[:8].hex(' '):<23}  {part[8:].hex(' '):<23}  {text}")
        out.line()
        out.line("as UTF-8:")
        out.line(shown.decode(errors="replace"))
        if len(shown) < len(value):
            out.line(f"… and {len(value) - len(shown):,} bytes more: --all-bytes, or --raw")
    out.result(
        {
            **plain(letter, mark),
            "key_base64": None if letter.key is None else base64.b64encode(letter.key).decode(),
            "headers": [[name, (content or b"").decode(errors="replace")] for name, content in letter.headers],
            "value_base64": None if letter.value is None else base64.b64encode(value).decode(),
            "value_utf8": None if letter.value is None else value.decode(errors="replace"),
        }
    )


def show_requeued(out: Output, done: Requeued) -> None:
    verb = "would be requeued" if done.dry_run else "requeued"
    out.line(f"{counted(len(done.sent), 'letter')} {verb}, {len(done.skipped):,} left alone.")
    rows = [(each.letter, f"→ {each.to}") for each in done.sent]
    rows += [(each.letter, f"left alone: {each.why}") for each in done.skipped]
    if rows:
        out.table(("letter", "what became of it"), rows[:_NAMED])
    if len(rows) > _NAMED:
        out.line(f"… and {len(rows) - _NAMED:,} more")
    if not done.transactional:
        out.note("this broker has no transactions: a crash in between would have sent a letter twice")
    out.result(
        {
            "dry_run": done.dry_run,
            "transactional": done.transactional,
            "requeued": [{"letter": str(each.letter), "to": each.to} for each in done.sent],
            "skipped": [{"letter": str(each.letter), "why": each.why} for each in done.skipped],
        }
    )


def announce_purge(out: Output, plan: PurgePlan) -> None:
    upto = ", ".join(f"{partition}:{offset}" for partition, offset in plan.before.items())
    out.line(
        f"{plan.topic}: {counted(plan.letters, 'letter')} before {upto}; {plan.kept:,} stay."
        if upto
        else f"{plan.topic}: there is nothing to remove; {plan.kept:,} letters stay."
    )
    if plan.not_requeued:
        out.line(f"{plan.not_requeued:,} of them never requeued: their events are lost for good.")
