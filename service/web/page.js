// The page: recordings come from the microphone or from files, go to the server, and are answered.

import { clearAnswer, showAnswer } from "/web/answer.js";
import { classify, model, patiently, Problem } from "/web/api.js";
import { keeping, startCapture } from "/web/capture.js";
import { answerOf, decode } from "/web/clips.js";
import { startLive } from "/web/continuous.js";
import { byId } from "/web/dom.js";
import { showFiles } from "/web/files.js";
import { choose, current, speaking, t, translate } from "/web/i18n.js";
import { choices } from "/web/memory.js";
import { peaksOf } from "/web/timeline.js";
import { clearTrouble, showTrouble, showWait } from "/web/trouble.js";

const THEME = "timbre.theme";
let asking = null; // for the model's facts
let facts = null;
let job = null; // what is being classified: an AbortController

/** The model's facts, asked for once. */
function known() {
  asking ??= patiently(model).then(
    (said) => {
      facts = said;
      render();
      return facts;
    },
    (problem) => {
      asking = null;
      throw problem;
    },
  );
  return asking;
}

/** Show whatever went wrong; a fault of the page's own is one, too. */
function fail(problem, ways) {
  if (!(problem instanceof Problem)) console.error(problem);
  showTrouble(problem, ways);
}

/** Classify one recording and show the answer, or what went wrong. */
async function classifyOne(file) {
  const signal = begin();
  const status = byId("status");
  clearAnswer();
  status.textContent = t("status.listening", { name: file.name });
  document.body.dataset.busy = "";
  const started = performance.now();
  try {
    const [{ labels }, answer] = await Promise.all([
      known(),
      answerOf(file, {
        ask: (clip) => ask(clip, signal),
        threshold: async () => (await known()).review_threshold,
        progress: (piece, pieces) => {
          signal.throwIfAborted();
          status.textContent = t("status.piece", { name: file.name, piece, pieces });
        },
      }),
    ]);
    const tookMs = performance.now() - started;
    const peaks = await drawn(file);
    signal.throwIfAborted(); // another recording came meanwhile
    showAnswer({ answer, file, peaks, labels, tookMs });
    status.textContent = ""; // the focus is on the verdict, which is read out
  } catch (problem) {
    if (signal.aborted) return;
    cancel(); // what may still go on of it
    fail(problem, { retry: () => classifyOne(file), keep: keeping(file) });
  }
  delete document.body.dataset.busy;
}

/** Ask for one clip's answer, showing a wait where the server asks for one. */
async function ask(clip, signal) {
  let refused = "overloaded";
  const answer = await patiently(
    () =>
      classify(clip, signal).catch((problem) => {
        refused = problem.slug;
        throw problem;
      }),
    {
      signal,
      waiting: (left, hurry) => showWait(refused, left, { hurry, cancel }),
    },
  );
  clearTrouble();
  return answer;
}

/** Begin what is to be shown next, in the place of what is under way. */
function begin() {
  cancel();
  job = new AbortController();
  return job.signal;
}

/** Give up what is under way; the recording stays. */
function cancel() {
  job?.abort();
  clearTrouble();
  byId("status").textContent = "";
  delete document.body.dataset.busy;
}

/** The waveform of a recording; nothing where the browser can't decode it. */
const drawn = (file) =>
  decode(file).then(
    ({ samples }) => peaksOf(samples),
    () => [],
  );

/** Classify what was chosen or dropped: one recording, or several. */
async function take(files) {
  if (files.length === 1) return classifyOne(files[0]);
  cancel();
  clearAnswer();
  const times = new Map();
  try {
    const { labels, review_threshold: threshold } = await known();
    showFiles(files, {
      labels,
      answer: async (file, note, signal) => {
        const started = performance.now();
        const answer = await answerOf(file, {
          ask: (clip) =>
            patiently(() => classify(clip, signal), {
              signal,
              waiting: (left) => note("files.busy", { seconds: left }),
            }),
          threshold: async () => threshold,
          progress: (piece, pieces) => note("files.piece", { piece, pieces }),
        });
        times.set(file, performance.now() - started);
        return answer;
      },
      open: async (file, answer) => {
        const signal = begin();
        const peaks = await drawn(file);
        if (signal.aborted) return;
        showAnswer({ answer, file, peaks, labels, tookMs: times.get(file) });
      },
      failed: (problem, retry) => fail(problem, { retry }),
    });
  } catch (problem) {
    fail(problem, { retry: () => take(files) });
  }
}

function render() {
  translate();
  byId("language").value = current();
  byId("model").textContent = facts ? t("model", facts) : "";
}

function dropping() {
  const over = (event) => event.dataTransfer.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    byId("drop").dataset.over = "";
  });
  window.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) delete byId("drop").dataset.over;
  });
  window.addEventListener("drop", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    delete byId("drop").dataset.over;
    take([...event.dataTransfer.files]);
  });
}

function theme(chosen) {
  document.documentElement.dataset.theme = chosen;
  choices.set(THEME, chosen);
}

let live = null;
startCapture({
  started: (recorder) => {
    cancel();
    clearAnswer();
    live?.cancel();
    live = byId("continuous").checked ? startLive(recorder, { known, fail }) : null;
    byId("live").hidden = !live;
    return live?.take ?? (() => {});
  },
  stopped: () => live?.stop(),
  classify: classifyOne,
});
byId("choose").addEventListener("change", ({ target }) => {
  const files = [...target.files];
  target.value = ""; // so that the same file can be chosen again
  if (files.length) take(files);
});
byId("language").addEventListener("change", ({ target }) => choose(target.value));
byId("theme").value = choices.get(THEME) ?? "";
byId("theme").addEventListener("change", ({ target }) => theme(target.value));
theme(byId("theme").value);
dropping();
speaking(render);
known().catch(() => {}); // whoever classifies is told
document.documentElement.dataset.ready = "";
performance.mark("interactive");
