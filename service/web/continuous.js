// Continuous mode on the page: the time line that grows while somebody speaks.

import { classify, countdown } from "/web/api.js";
import { byId } from "/web/dom.js";
import { emotion, percent, seconds, speaking, t } from "/web/i18n.js";
import { Live } from "/web/live.js";
import { peaksOf, showTimeline, tone } from "/web/timeline.js";
import { clearTrouble, showWait } from "/web/trouble.js";
import { wav } from "/web/wav.js";

let session = null;

/**
 * Begin; returns `take`, which takes each block of sound, `stop`, which waits for the last answer,
 * and `cancel`, after which nothing more is sent and every window is a gap.
 *
 * @param recorder that has been started.
 * @param page.known gives the model's facts.
 * @param page.fail shows a problem.
 */
export function startLive(recorder, { known, fail }) {
  const mine = { recorder, segments: [], peaks: [], labels: [], windowS: null };
  const early = []; // what comes before the model's window is known
  const over = new AbortController();
  let live = null;
  let refused = null; // why, since the last answer
  let waiting = false; // as the server asked
  session = mine;
  const told = ({ answer, gap = false, problem = null, ...span }) => {
    const { label = null, score = null } = answer ?? {};
    mine.segments.push({ ...span, label, score, gap });
    mine.segments.sort((one, other) => one.start_s - other.start_s);
    if (answer) {
      if (refused) clearTrouble();
      refused = null;
    } else if (problem && !over.signal.aborted) {
      // What is shown already stays: somebody may be typing a token there.
      const isNew = problem.slug !== refused?.slug || !refused;
      refused = problem;
      const retry = problem.slug === "unauthorized" ? () => (refused = null) : null;
      if (isNew && problem.retryAfterS == null) fail(problem, { retry });
    }
    render();
  };
  const cancel = () => {
    refused = null;
    over.abort();
  };
  const pause = async (wait) => {
    const { slug, retryAfterS } = refused ?? {};
    waiting = retryAfterS != null;
    const count = (left, hurry) => waiting && showWait(slug, left, { hurry, cancel });
    await countdown(wait, count, over.signal).catch(() => {}); // it is over
    waiting = false;
  };
  const begin = ({ labels, window_s: windowS }) => {
    if (over.signal.aborted) return;
    Object.assign(mine, { labels, windowS });
    live = new Live({
      rate: recorder.rate,
      windowS,
      ask: (parts, rate) => classify(wav(parts, rate), over.signal),
      told,
      pause,
    });
    early.splice(0).forEach((block) => live.push(block));
    render();
  };
  let beginning;
  const unmet = (problem) => over.signal.aborted || fail(problem, { retry: meet });
  const meet = () => (beginning = known().then(begin, unmet));
  meet();
  return {
    take: (block) => {
      mine.peaks.push(block.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
      if (live) live.push(block);
      else early.push(block);
    },
    stop: async () => {
      if (waiting) over.abort(); // the server asked for no more until later
      await beginning;
      await live?.stop();
      over.abort();
      if (refused?.retryAfterS != null) fail(refused, {}); // in the place of its countdown
    },
    cancel,
  };
}

function render() {
  if (!session) return;
  const { recorder, segments, peaks, labels, windowS } = session;
  const latest = segments.findLast((segment) => !segment.gap);
  const now = byId("live-now");
  const text = summary(latest, windowS);
  now.dataset.tone = latest?.label ? tone(latest.label, labels) : "";
  if (now.textContent !== text) now.textContent = text; // or it would be read out again
  const durationS = segments.at(-1)?.end_s;
  if (!durationS) {
    byId("live-timeline").replaceChildren();
    return;
  }
  const heard = peaks.slice(0, Math.round((peaks.length * durationS) / recorder.seconds));
  showTimeline(byId("live-timeline"), { durationS, segments, labels, peaks: peaksOf(heard) });
}
speaking(render);

function summary(latest, windowS) {
  if (!latest) return windowS === null ? "" : t("live.first", { seconds: seconds(windowS) });
  if (latest.label === null) return t("answer.none");
  return t("live.now", { label: emotion(latest.label), score: percent(latest.score) });
}
