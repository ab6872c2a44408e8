// What a device does (section 6), as one pure function: step(state, event) -> [state, effects].
// Time (`at`, a monotonic timer in ms) and randomness (`random`, a fresh number in [0, 1)) come in with the event.
// Instants in the state are the server's clock's, except heard, welcomedAt and reopenAt, which are monotonic.
import { createHash } from 'node:crypto';
import { sharePoint, slot } from './slots.mjs';

const TRIES = 5; // rule 10
const CATCH_UP_MS = 5000; // rule 17
const SAMPLES = 12; // rule 5: 8 to 16
const STEP_MS = 1000; // rule 6
const ANSWER_MS = 5000; // how long a connection that outlived a jump of time has for its answer
const HAVE = 32; // section 9
const BUG_STATUS = [400, 403, 404, 405, 426]; // refusals that coming back sooner would not change
const BUG_CODES = [1002, 1003, 1007, 1008, 1009];

export const initial = (id, held = []) => ({
  id, held, campaigns: new Map(), jobs: [], since: 0,
  samples: [], low: [], heard: null, grace: null, doubt: false, syncing: false,
  connected: false, welcomedAt: null, reopenAt: null, attempt: 0, policy: { base_ms: 500, cap_ms: 20000 },
});

export function step(state, event) {
  const s = structuredClone(state);
  const out = [];
  if (s.grace && !s.doubt && event.at >= s.heard + s.grace) Object.assign(s, { doubt: true, syncing: false });
  // Asked before the news is taken, with the `since` of before the silence. Not before a beacon: it would be taken for
  // the answer; and not before a welcome, which is one.
  const asks = () => s.doubt && s.connected && !s.syncing && sync(s, out);
  if (event.type !== 'disconnected' && !['welcome', 'beacon'].includes(event.message?.t)) asks();
  HANDLERS[event.type](s, event, out);
  asks();
  return [s, out];
}

// --- Questions about a state.

export const offset = (s) => Math.max(...s.samples);
export const resume = (s) => ({ have: s.held.slice(-HAVE), since: s.since });

/** Rule 12: the activations that neither a newer activation nor a cancel found not yet begun, by revision. */
export function standing(acts, cancels) {
  const revs = [...acts.map((x) => x.rev), ...cancels];
  return acts.filter((x) => !revs.some((rev) => rev > x.rev && x.at > rev)).sort((a, b) => a.rev - b.rev);
}

/** The activations this device still has to act on: rules 12, 14 and 18. */
function armed(s, c) {
  const mine = standing(c.acts, c.cancels)
    .filter((x) => x.rev > c.acted && (x.share >= 1 || sharePoint(s.id, c.name) < x.share));
  const newestOver = mine.findLast((x) => x.over);
  return mine.filter((x) => !x.over || x === newestOver);
}

const fetching = (s, c, rev) => s.jobs.some((j) => j.act && j.campaign === c.name && j.rev === rev);

/** When `due` has to come next, on the monotonic timer; null: not until something else happens. */
export function nextDue(s) {
  const times = s.reopenAt === null ? [] : [s.reopenAt];
  const silence = s.heard + s.grace * (s.doubt ? 2 : 1);
  if (s.connected) times.push(silence);
  times.push(...s.jobs.filter((j) => !j.flying).map((j) => j.due - offset(s)));
  for (const c of s.doubt ? [] : s.campaigns.values()) {
    const waiting = armed(s, c);
    const from = waiting.findLastIndex((x) => fetching(s, c, x.rev)) + 1; // what is fetched for is due already
    times.push(...waiting.slice(from).map((x) => x.due - offset(s)).filter((t) => t < silence));
  }
  return times.length ? Math.min(...times) : null;
}

// --- Small parts.

/** Rules 9, 13, 16 and 17: when to act in a window that starts at `start`, having learned of it `now`. */
const timing = (s, { rev, window_ms }, start, now) => start + window_ms <= now
  ? { over: true, due: Math.floor(now) + slot(s.id, rev, Math.min(CATCH_UP_MS, window_ms)) }
  : { over: false, due: start + slot(s.id, rev, window_ms) };

function sync(s, out) {
  s.syncing = true;
  out.push({ do: 'send', message: { t: 'sync', since: s.since } });
}

function report(s, out, campaign, rev, kind, ms = 0, via = 'cache') {
  const message = { t: 'report', campaign, rev, kind, ms: Math.max(0, Math.round(ms)), via };
  if (s.connected) out.push({ do: 'send', message });
}

function ready(s, out, { campaign, rev, sha256 }, via, ms = 0) {
  report(s, out, campaign, rev, 'ready', ms, via);
  out.push({ do: 'prefetched', campaign, rev, sha256, via });
}

function keep(s, sha256) {
  s.held = [...s.held.filter((d) => d !== sha256), sha256];
}

/** Rules 5 and 6: take what the server's clock said `now`, heard `at`. */
export function sample(s, now, at) {
  const value = now - at;
  s.low = s.samples.length && value < offset(s) - STEP_MS ? [...s.low, value] : [];
  s.samples = s.low.length === 3 ? s.low : [...s.samples, value].slice(-SAMPLES);
  if (s.low.length === 3) s.low = [];
}

/** Rules 27 to 30: when to try again, monotonic; null for never. */
function backoff(s, { at, random, code, status, retry_after_ms }) {
  if (code >= 4500) return null;
  const { base_ms, cap_ms } = s.policy;
  const bug = BUG_STATUS.includes(status) || BUG_CODES.includes(code);
  const span = bug ? cap_ms : Math.min(cap_ms, base_ms * 2 ** s.attempt);
  s.attempt += 1;
  return at + Math.floor(random * span) + (retry_after_ms ?? 0);
}

/** Rule 29: a Retry-After header in ms, none if it is a date. */
export const retryAfter = (value) => (/^\d+$/.test(value) ? Math.min(Number(value), 3600) * 1000 : 0);

function rested(s, at) {
  if (s.connected && at - s.welcomedAt >= s.policy.cap_ms) s.attempt = 0;
}

function run(s, job, out) {
  const flying = s.jobs.some((j) => j.flying && j.sha256 === job.sha256);
  job.flying = true;
  if (!flying) out.push({ do: 'fetch', campaign: job.campaign, rev: job.rev, bundle: job.bundle });
}

// --- Messages about campaigns. `silent`: from a welcome, whose `have` has told what is held.

const NEWS = {
  prefetch(s, c, m, { out, now, silent }) {
    if (m.rev <= c.prefetchRev) return;
    const { inline, ...bundle } = m.bundle;
    const job = { campaign: c.name, rev: m.rev, sha256: bundle.sha256, bundle, act: false, tries: 0, flying: false };
    Object.assign(c, { prefetchRev: m.rev, prefetch: bundle });
    c.digests.add(bundle.sha256);
    s.jobs = s.jobs.filter((j) => j.act || j.campaign !== c.name);
    if (inline !== undefined) {
      if (createHash('sha256').update(inline).digest('hex') === bundle.sha256) {
        keep(s, bundle.sha256);
        out.push({ do: 'store', sha256: bundle.sha256, content: inline });
        return ready(s, out, job, 'inline');
      }
      report(s, out, c.name, m.rev, 'failed');
      if (!bundle.url) return;
    }
    if (silent && s.held.includes(bundle.sha256))
      return out.push({ do: 'prefetched', campaign: c.name, rev: m.rev, sha256: bundle.sha256, via: 'cache' });
    s.jobs.push({ ...job, end: m.from + m.window_ms, due: timing(s, m, m.from, now).due });
  },
  activate(s, c, m, { now }) {
    if (c.acts.some((x) => x.rev === m.rev)) return;
    c.acts.push({ ...m, ...timing(s, m, m.at, now) });
    c.digests.add(m.bundle);
  },
  cancel(s, c, m, { out }) {
    const before = armed(s, c);
    c.cancels = [...new Set([...c.cancels, m.rev])];
    const after = armed(s, c).map((x) => x.rev);
    if (before.some((x) => !after.includes(x.rev))) out.push({ do: 'cancelled', campaign: c.name, rev: m.rev });
  },
  close(s, c, { rev }, { out }) {
    const known = c.prefetch || c.acts.length || c.shown;
    c.closed = rev;
    c.acts = c.acts.filter((x) => x.rev > Math.max(rev, c.acted));
    c.cancels = c.cancels.filter((r) => r > rev);
    if (c.prefetchRev <= rev) c.prefetch = null;
    const off = c.shown?.rev <= rev;
    if (off) c.shown = null;
    if (c.active <= rev) c.active = null;
    s.jobs = s.jobs.filter((j) => j.campaign !== c.name || j.rev > rev);
    const mine = c.digests;
    c.digests = new Set([c.prefetch?.sha256, c.shown?.bundle, ...c.acts.map((x) => x.bundle)].filter(Boolean));
    const used = [...s.campaigns.values()].flatMap((other) => [...other.digests]);
    const digests = s.held.filter((d) => mine.has(d) && !used.includes(d));
    s.held = s.held.filter((d) => !digests.includes(d));
    if (digests.length) out.push({ do: 'drop', campaign: c.name, digests });
    if (off || (known && !c.shown && !c.prefetch && !c.acts.length)) out.push({ do: 'closed', campaign: c.name, rev });
  },
};

function news(s, m, context) {
  s.since = Math.max(s.since, m.rev);
  const c = s.campaigns.get(m.campaign) ?? {
    name: m.campaign, acts: [], cancels: [], prefetch: null, prefetchRev: -1, closed: -1, acted: -1,
    shown: null, active: null, digests: new Set(),
  };
  s.campaigns.set(m.campaign, c);
  if (m.rev <= c.closed) return;
  NEWS[m.t](s, c, m, context);
  const wanted = armed(s, c).map((x) => x.rev);
  s.jobs = s.jobs.filter((j) => !j.act || j.campaign !== c.name || wanted.includes(j.rev));
}

/** Rule 24: what became due in doubt is learned of now. */
function trust(s, now) {
  if (!s.doubt) return;
  s.doubt = false;
  for (const c of s.campaigns.values())
    for (const x of armed(s, c).filter((y) => y.due <= now && !fetching(s, c, y.rev)))
      Object.assign(x, timing(s, x, x.at, now));
}

// --- The other messages.

const MESSAGES = {
  welcome(s, m, { at, have = s.held }, out) {
    rested(s, at);
    sample(s, m.now, at);
    const now = at + offset(s);
    const grace = 3000 * m.beacon_s;
    Object.assign(s, { connected: true, welcomedAt: at, reopenAt: null, syncing: false, policy: m.reconnect, grace });
    for (const c of s.campaigns.values()) {
      const sha256 = c.prefetch?.sha256;
      const waits = s.jobs.some((j) => j.sha256 === sha256 && !j.act);
      const untold = s.held.includes(sha256) && !have.includes(sha256) && !waits; // stored since the query was sent
      if (untold) report(s, out, c.name, c.prefetchRev, 'ready', 0, 'resume');
      if (c.active !== null) report(s, out, c.name, c.active, 'active', 0, 'resume');
    }
    for (const item of m.state) news(s, item, { out, now, silent: true });
    trust(s, now);
  },
  beacon(s, m, { at }, out) {
    sample(s, m.now, at);
    if (s.syncing) {
      Object.assign(s, { syncing: false, since: Math.max(s.since, m.rev) });
      trust(s, at + offset(s));
    } else if (m.rev > s.since) sync(s, out);
  },
  reconnect(s, m, { at, random }) {
    s.reopenAt = at + random * m.within_ms;
  },
};

// --- Acting.

function act(s, c, now, out) {
  const x = armed(s, c).findLast((y) => y.due <= now);
  if (!x || fetching(s, c, x.rev)) return;
  const held = s.held.includes(x.bundle);
  if (!held && x.miss === 'fetch') {
    const bundle = c.prefetch?.sha256 === x.bundle ? c.prefetch : { sha256: x.bundle, bytes: 0 };
    const job = { campaign: c.name, rev: x.rev, sha256: x.bundle, bundle, act: true, tries: 0, end: x.at + x.window_ms };
    s.jobs.push(job);
    return run(s, job, out);
  }
  c.acted = x.rev;
  if (!held && x.miss === 'silent') return report(s, out, c.name, x.rev, 'failed');
  const bundle = held ? x.bundle : null;
  const late_ms = Math.max(0, now - x.due);
  const { stage, shadow, rev } = x;
  if (shadow || c.shown?.stage !== stage || c.shown.bundle !== bundle)
    out.push({ do: 'flip', campaign: c.name, rev, stage, bundle, shadow, due_ms: x.due, late_ms });
  if (!shadow) c.shown = { stage, bundle, rev };
  c.active = rev;
  report(s, out, c.name, rev, 'active', late_ms, bundle === null ? 'generic' : x.fetched ? 'fetch' : 'cache');
}

const HANDLERS = {
  received(s, event, out) {
    const { message: m, at } = event;
    if (m.t !== 'welcome' && !s.samples.length) return;
    s.heard = at;
    if (MESSAGES[m.t]) MESSAGES[m.t](s, m, event, out);
    else news(s, m, { out, now: at + offset(s), silent: false });
  },
  due(s, event, out) {
    const { at } = event;
    if (!s.samples.length) return;
    const now = at + offset(s);
    for (const job of s.jobs.filter((j) => !j.flying && j.due <= now)) {
      if (job.act || !s.held.includes(job.sha256)) run(s, job, out);
      else {
        s.jobs = s.jobs.filter((j) => j !== job);
        ready(s, out, job, 'cache');
      }
    }
    if (!s.doubt) for (const c of s.campaigns.values()) act(s, c, now, out);
    const deaf = s.doubt && s.connected && s.reopenAt === null && at >= s.heard + 2 * s.grace;
    // The silence is counted anew from here, should the new connection bring nothing either.
    if (deaf) Object.assign(s, { heard: at, reopenAt: backoff(s, event) });
    if (s.reopenAt !== null && at >= s.reopenAt) {
      out.push({ do: 'reopen' });
      s.reopenAt = null;
    }
  },
  stored(s, { sha256, via, took_ms }, out) {
    const users = [...s.campaigns.values()].filter((c) => c.digests.has(sha256));
    if (!users.length) { // its campaign was closed while it came
      s.held = s.held.filter((d) => d !== sha256);
      return out.push({ do: 'drop', campaign: '', digests: [sha256] });
    }
    keep(s, sha256);
    const mine = s.jobs.filter((j) => j.sha256 === sha256);
    s.jobs = s.jobs.filter((j) => j.sha256 !== sha256);
    for (const job of mine.filter((j) => !j.act)) ready(s, out, job, via, took_ms);
    for (const c of users)
      for (const x of c.acts) x.fetched ||= mine.some((j) => j.act && j.campaign === c.name && j.rev === x.rev);
  },
  fetch_failed(s, { sha256, at, random, retry_after_ms }, out) {
    const now = at + offset(s);
    for (const job of s.jobs.filter((j) => j.sha256 === sha256 && (j.flying || j.tries))) {
      job.tries += 1;
      job.flying = false;
      job.due = Math.floor(now + random * Math.max((job.end - now) / 4, 1000 * 2 ** job.tries) + (retry_after_ms ?? 0));
      if (job.tries < TRIES) continue;
      s.jobs = s.jobs.filter((j) => j !== job);
      const c = s.campaigns.get(job.campaign);
      if (job.act) c.acted = Math.max(c.acted, job.rev);
      report(s, out, job.campaign, job.rev, 'failed');
    }
  },
  /** Time jumped: the device slept, or its timer stood still. A cancel may have been missed, as in a silence. */
  distrusted(s, { at }) {
    if (s.grace) Object.assign(s, { doubt: true, syncing: false, heard: at - 2 * s.grace + ANSWER_MS });
  },
  /** No connection is left. */
  disconnected(s, event, out) {
    rested(s, event.at);
    const again = backoff(s, event);
    Object.assign(s, { connected: false, syncing: false, reopenAt: null });
    out.push({ do: 'connect', at: again });
  },
  /** Rule 32: the second connection did not come about; the first goes on. */
  reopen_failed(s, event) {
    s.reopenAt = backoff(s, event);
  },
};
