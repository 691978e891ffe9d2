// The server's interface: one function a route, and one kind of error for all that may go wrong.

import { secrets } from "/web/memory.js";

const URN = "urn:timbre:problem:";
const TOKEN = "timbre.token";
const TIMEOUT_MS = 120_000; // an answer may take the server's deadline, and the way there

export const MAX_TRIES = 8; // of one request that is refused with Retry-After
export const MAX_WAIT_S = 30; // between two of them, whatever Retry-After says
const WAIT_S = 1; // when it says nothing

/** What went wrong: `slug` is that of the server's problem type, or one of the page's own. */
export class Problem extends Error {
  constructor(slug, { detail = "", status = 0, retryAfterS = null } = {}) {
    super(detail || slug);
    this.slug = slug;
    this.detail = detail;
    this.status = status;
    this.retryAfterS = retryAfterS; // seconds; null where waiting doesn't help
  }
}

/** Keep a token until the tab is closed. */
export function useToken(token) {
  secrets.set(TOKEN, token);
}

export const hasToken = () => secrets.get(TOKEN) !== null;

/** The facts of the model that is served. */
export const model = () => send("/v1/model");

/** Classify one clip within the server's limits, with its time line. */
export const classify = (clip, signal) =>
  send("/v1/classify?timeline=true", {
    method: "POST",
    headers: { "content-type": "application/octet-stream" },
    body: clip,
    signal,
  });

async function send(path, { headers = {}, signal, ...request } = {}) {
  const token = secrets.get(TOKEN);
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  let response;
  try {
    response = await fetch(path, {
      ...request,
      headers: token ? { ...headers, authorization: `Bearer ${token}` } : headers,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    if (response.ok) return await response.json();
  } catch {
    signal?.throwIfAborted();
    throw new Problem("unreachable");
  }
  throw await refusal(response);
}

async function refusal(response) {
  const said = await response.json().catch(() => ({})); // a gateway's own page is no JSON
  const busy = response.status === 429 || response.status === 503;
  const wait = response.headers.get("retry-after") ?? "";
  const known = String(said.type).startsWith(URN) ? said.type.slice(URN.length) : null;
  return new Problem(known ?? (response.status === 413 ? "too-large" : "refused"), {
    detail: said.detail ?? `HTTP ${response.status} ${response.statusText}`.trim(),
    status: response.status,
    retryAfterS: busy ? Math.min(/^\d+$/.test(wait) ? Number(wait) : WAIT_S, MAX_WAIT_S) : null,
  });
}

/**
 * Ask until the answer is neither "busy" nor "not ready", as often as the Python client does.
 *
 * @param waiting is called every second with the seconds left and a function that ends the wait.
 */
export async function patiently(ask, { waiting = () => {}, signal } = {}) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask();
    } catch (problem) {
      if (problem.retryAfterS == null || tries === MAX_TRIES) throw problem;
      await countdown(problem.retryAfterS, waiting, signal);
    }
  }
}

/** Wait, and say every second how long it still takes. */
export function countdown(seconds, waiting, signal) {
  return new Promise((resolve, reject) => {
    let left = seconds;
    const stop = (end, value) => {
      clearInterval(ticking);
      signal?.removeEventListener("abort", aborted);
      end(value);
    };
    const aborted = () => stop(reject, signal.reason);
    const tick = () => (left <= 0 ? stop(resolve) : waiting(left, () => stop(resolve)));
    const ticking = setInterval(() => {
      left -= 1;
      tick();
    }, 1000);
    if (signal?.aborted) return aborted();
    signal?.addEventListener("abort", aborted);
    tick();
  });
}
