// What the answers of /v1/overview say together: sums over the workers, and rates between two answers. Nothing but
// numbers in and out.

export const OUTCOMES = [
  ["stored", "Stored", ["stored"]],
  ["updated", "Updated", ["updated"]],
  ["duplicates", "Duplicates", ["duplicate_exact", "duplicate_content", "duplicate_near"]],
  ["deletes", "Deletes", ["deleted"]],
  ["dead", "Dead letters", []],
];

const known = (overview) => overview.workers.flatMap((worker) => (worker.figures ? [worker.figures] : []));
const sum = (values) => values.reduce((all, value) => all + value, 0);
const most = (values) => (values.length ? Math.max(...values) : null);

/** A worker's totals by outcome. */
export function totalsOf(figures) {
  return Object.fromEntries(
    OUTCOMES.map(([name, , parts]) => [
      name, name === "dead" ? figures.dead_letters : sum(parts.map((part) => figures.outcomes[part] ?? 0)),
    ]),
  );
}

/** How things stand in the cluster, as far as its workers answered. */
export function standing(overview) {
  const figures = known(overview);
  const partitions = figures.flatMap((each) => each.partitions);
  const lags = partitions.filter((each) => each.lag_records !== null);
  const fresh = figures.flatMap((each) => (each.freshness ? [each.freshness] : []));
  const totals = figures.map(totalsOf);
  return {
    totals: Object.fromEntries(OUTCOMES.map(([name]) => [name, sum(totals.map((each) => each[name]))])),
    live: sum(partitions.map((each) => each.live_rows)),
    segments: sum(partitions.map((each) => each.segments.length)),
    lagRecords: lags.length ? sum(lags.map((each) => each.lag_records)) : null,
    lagEvents: lags.length ? sum(lags.map((each) => each.lag_events)) : null,
    lagSeconds: most(lags.flatMap((each) => (each.lag_s === null ? [] : [each.lag_s]))),
    read: sum(lags.map((each) => each.next_offset)),
    ends: sum(lags.map((each) => Math.max(each.end_offset, each.next_offset))),
    owned: lags.map((each) => each.partition).sort((a, b) => a - b).join(),
    p50: most(fresh.map((each) => each.p50_s)),
    p99: most(fresh.map((each) => each.p99_s)),
    windowsOpen: sum(partitions.map((each) => each.open_windows)),
    windowsClosed: sum(figures.map((each) => each.windows_closed)),
    indexBacklog: sum(figures.map((each) => each.index_backlog.segments)),
    spillBacklog: figures.some((each) => each.spill_backlog)
      ? sum(figures.map((each) => each.spill_backlog?.segments ?? 0)) : null,
  };
}

/** Events a second by outcome between two answers; null where no worker is in both, newer in the second. */
export function ratesBetween(before, after) {
  const earlier = new Map(before.workers.map((worker) => [worker.name, worker.figures]));
  const rates = Object.fromEntries(OUTCOMES.map(([name]) => [name, 0]));
  let counted = false;
  for (const { name, figures } of after.workers) {
    const old = earlier.get(name);
    if (!figures || !old || figures.started_at_ms !== old.started_at_ms || figures.at_ms <= old.at_ms) continue;
    counted = true;
    const [now, then] = [totalsOf(figures), totalsOf(old)];
    for (const outcome of Object.keys(rates))
      rates[outcome] += ((now[outcome] - then[outcome]) * 1000) / (figures.at_ms - old.at_ms);
  }
  return counted ? rates : null;
}

/** Seconds until all is read at the pace of the looks; 0: all is; null: not known; Infinity: never. */
export function timeToClear(looks) {
  const last = looks.at(-1);
  if (last === undefined || last.lagRecords === null) return null;
  if (last.lagRecords === 0) return 0;
  const first = looks.find((look) => look.owned === last.owned && last.at_ms - look.at_ms <= 30_000);
  const seconds = (last.at_ms - first.at_ms) / 1000;
  if (seconds < 3) return null;
  const gained = (last.read - first.read - (last.ends - first.ends)) / seconds;
  return gained > 0 ? last.lagRecords / gained : Infinity;
}
