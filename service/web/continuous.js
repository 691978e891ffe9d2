// Continuous mode on the page: the time line that grows while somebody speaks.

import { classify, countdown } from "/web/api.js";
import { byId } from "/web/dom.js";
import { emotion, percent, seconds, speaking, t } from "/web/i18n.js";
import { Live } from "/web/live.js";
import { showTimeline, tone } from "/web/timeline.js";
import { clearTrouble, showWait } from "/web/trouble.js";
import { wav } from "/web/wav.js";

let session = null;

/**
 * Begin; returns `take`, which takes each block of sound, and `stop`, which waits for the last
 * answer.
 *
 * @param recorder that has been started.
 * @param page.known gives the model's facts.
 * @param page.fail shows a problem.
 * @param page.cancel is called by whoever doesn't want to see a wait.
 */
export function startLive(recorder, { known, fail, cancel }) {
  const mine = { recorder, segments: [], peaks: [], labels: [], windowS: null, refused: null };
  const early = []; // what comes before the model's window is known
  let live = null;
  session = mine;
  const told = ({ answer, gap = false, problem = null, ...span }) => {
    const { label = null, score = null } = answer ?? {};
    mine.segments.push({ ...span, label, score, gap });
    mine.segments.sort((one, other) => one.start_s - other.start_s);
    mine.refused = problem ?? mine.refused;
    if (answer) clearTrouble();
    else if (problem && problem.retryAfterS == null) fail(problem, {});
    render();
  };
  const pause = (wait) =>
    countdown(wait, (left, hurry) => {
      if (mine.refused.retryAfterS != null) showWait(mine.refused.slug, left, { hurry, cancel });
    });
  const begin = ({ labels, window_s: windowS }) => {
    Object.assign(mine, { labels, windowS });
    live = new Live({
      rate: recorder.rate,
      windowS,
      ask: (parts, rate) => classify(wav(parts, rate)),
      told,
      pause,
    });
    early.splice(0).forEach((block) => live.push(block));
    render();
  };
  const beginning = known().then(begin, (problem) => fail(problem, {}));
  return {
    take: (block) => {
      mine.peaks.push(block.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
      if (live) live.push(block);
      else early.push(block);
    },
    stop: async () => {
      await beginning;
      await live?.stop();
    },
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
  showTimeline(byId("live-timeline"), { durationS, segments, labels, peaks: heard });
}
speaking(render);

function summary(latest, windowS) {
  if (!latest) return windowS === null ? "" : t("live.first", { seconds: seconds(windowS) });
  if (latest.label === null) return t("answer.none");
  return t("live.now", { label: emotion(latest.label), score: percent(latest.score) });
}
