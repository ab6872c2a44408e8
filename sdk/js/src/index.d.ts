// Types of fanout-device. Names of fields are those of docs/protocol.md; units end the names.

/** A bundle's name: 64 lower-case hex digits. */
export type Sha256 = string;

/** A bundle is there: from now on it is shown from the cache. */
export interface PrefetchedEvent {
  campaign: string;
  rev: number;
  sha256: Sha256;
  via: "inline" | "fetch" | "cache";
}

/** Show this stage now; in `onRehearse`: what would be shown now. */
export interface ActivateEvent {
  campaign: string;
  rev: number;
  stage: string;
  /** Null asks for the app's generic presentation. */
  bundle: Sha256 | null;
  /** The bundle's text, JSON of all stages. Null if there is none, or it is gone: show the generic presentation. */
  content: string | null;
  shadow: boolean;
  /** The device's own instant, Unix ms by the server's clock. */
  due_ms: number;
  /** How long after `due_ms` this call came. */
  late_ms: number;
}

/** `onCancel`: what was armed is not coming. `onClose`: the campaign is over, stop showing it. */
export interface CampaignEvent {
  campaign: string;
  rev: number;
}

export type State = "connecting" | "connected" | "waiting" | "ended";

export interface StateEvent {
  state: State;
  /** In words, for a log. */
  reason?: string;
  /** WebSocket close code. */
  code?: number;
  /** HTTP status of a refused handshake; browsers do not tell it. */
  status?: number;
  retry_after_ms?: number;
  /** Until the next attempt; with "waiting". */
  retry_in_ms?: number;
  /** Names the connection in the gateway's logs; with "connected". */
  session?: string;
}

export type ErrorKind = "message" | "callback" | "token" | "socket" | "fetch" | "storage" | "topics" | "internal";

export interface ErrorEvent {
  kind: ErrorKind;
  detail: string;
  /** How many of this kind there were. */
  count: number;
}

export interface LogEntry {
  /** Unix ms by the device's own clock. */
  at: number;
  event: string;
  [field: string]: unknown;
}

export interface Stats {
  deviceId: string | null;
  received: number;
  sent: number;
  connections: number;
  fetches: number;
  flips: number;
  /** Counts by kind. */
  errors: { [kind in ErrorKind]?: number };
  /** Bundles this device counts on. */
  held: Sha256[];
}

/** What the SDK needs of localStorage. */
export interface StorageLike {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Where bundles are kept. Calls are synchronous: they run between two frames of the app. */
export interface BundleCache {
  /** What is kept, oldest first. */
  digests(): Sha256[];
  get(sha256: Sha256): string | null;
  /** Returns those that had to go for it. */
  put(sha256: Sha256, content: string): Sha256[];
  drop(digests: Sha256[]): void;
}

export interface Codec {
  /** Such as "fanout.v1.msgpack". */
  subprotocol: string;
  encode(message: object): Uint8Array;
  decode(bytes: Uint8Array): unknown;
}

export interface Clock {
  /** Never runs backwards, ms. */
  monoMs(): number;
  /** Unix ms; it may be wrong. */
  wallMs(): number;
}

export interface Timers {
  set(work: () => void, ms: number): any;
  clear(id: any): void;
}

export type GetToken = (() => string | PromiseLike<string>) | ((done: (token: string) => void) => void);

export interface DeviceOptions {
  /** The gateway, ws:// or wss://, without a query; /v1/connect is added if there is no path. */
  url: string;
  /** Called first, and again whenever the last token was refused or has expired. */
  getToken: GetToken;
  /** Where bundles without a host of their own are; the gateway's host if missing. */
  originUrl?: string;
  /** The token's sub, for tokens that cannot be read here. */
  deviceId?: string;
  /** JSON if missing. */
  codec?: Codec;
  /** Instead of the SDK's own, which is in memory with `storage` behind it. */
  cache?: BundleCache;
  /** The page's localStorage if missing; null keeps bundles in memory. */
  storage?: StorageLike | null;
  /** The page's own if missing. */
  WebSocket?: new (url: string, protocols: string[]) => any;
  /** For bundles; XMLHttpRequest where there is one, else the global fetch, if missing. */
  fetch?: (url: string, init: any) => Promise<any>;
  clock?: Clock;
  timers?: Timers;
  /** 0 <= x < 1. */
  random?: () => number;
  /** Listen to these alone of the token's topics. */
  topics?: string[];
  onPrefetched?(event: PrefetchedEvent): unknown;
  onActivate?(event: ActivateEvent): unknown;
  onRehearse?(event: ActivateEvent): unknown;
  onCancel?(event: CampaignEvent): unknown;
  onClose?(event: CampaignEvent): unknown;
  onState?(event: StateEvent): unknown;
  onError?(error: ErrorEvent): void;
  onLog?(entry: LogEntry): void;
}

/** A device that stays connected, keeps what it is sent, and flips at its own slot. */
export class Device {
  /** Throws a TypeError if an option is wrong. Nothing throws after that. */
  constructor(options: DeviceOptions);
  start(): void;
  /** Leaves the gateway and stops. `start` begins again, with all that is known. */
  close(): void;
  state(): State;
  /** Stage and bundle on the screen for this campaign. */
  shown(campaign: string): [stage: string, bundle: Sha256 | null] | null;
  /** The text of a bundle that is held. */
  content(sha256: Sha256): string | null;
  subscribe(topics: string[]): void;
  unsubscribe(topics: string[]): void;
  /** The TV woke, or the app came back, in a way the page is not told of: do at once what is due. */
  wake(): void;
  stats(): Stats;
}

/** The SDK's own cache: memory, with a storage behind it. */
export class Cache implements BundleCache {
  constructor(options?: {
    storage?: StorageLike | null;
    bytesMax?: number;
    bundlesMax?: number;
    wallMs?: () => number;
    onError?: (error: unknown) => void;
  });
  digests(): Sha256[];
  get(sha256: Sha256): string | null;
  put(sha256: Sha256, content: string): Sha256[];
  drop(digests: Sha256[]): void;
}

/** The state machine alone, for those who drive it themselves; see src/machine.js and tests/vectors/device.json. */
export class DeviceMachine {
  constructor(
    deviceId: string,
    options?: { held?: Sha256[]; random?: () => number; reconnect?: { base_ms: number; cap_ms: number } },
  );
  received(message: object, monoMs: number): Action[];
  due(monoMs: number): Action[];
  stored(sha256: Sha256, monoMs: number, via?: string, took_ms?: number): Action[];
  fetchFailed(sha256: Sha256, monoMs: number, retry_after_ms?: number): Action[];
  distrusted(monoMs: number): Action[];
  evicted(sha256: Sha256): void;
  disconnected(monoMs: number, why?: { code?: number; status?: number; retry_after_ms?: number }): number | null;
  reopenFailed(monoMs: number, why?: { code?: number; status?: number; retry_after_ms?: number }): void;
  nextDueMs(): number | null;
  resume(): { have: Sha256[]; since: number };
  shown(campaign: string): [stage: string, bundle: Sha256 | null] | null;
  serverMs(monoMs: number): number | null;
  held(): Sha256[];
  connected(): boolean;
}

export interface Action {
  do: "fetch" | "store" | "drop" | "send" | "reopen" | "flip" | "prefetched" | "cancelled" | "closed";
  [field: string]: any;
}

/** Where in the window a device acts, ms. */
export function slotMs(deviceId: string, rev: number, window_ms: number): number;
/** The share from which on a device belongs to a canary: 0 <= point < 1. */
export function sharePoint(deviceId: string, campaign: string): number;
/** A message to a device, checked and with its defaults; null if its type is unknown. Throws for what is none. */
export function check(object: unknown): { t: string; [field: string]: any } | null;
