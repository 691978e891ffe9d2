// The recording side of the page: one button, the level, the clock, and what was recorded.

import { Problem } from "/web/api.js";
import { byId, save } from "/web/dom.js";
import { clock, seconds, speaking, t } from "/web/i18n.js";
import { Recorder } from "/web/recorder.js";
import { clearTrouble, showTrouble } from "/web/trouble.js";

const BAR_PX = 4; // of the level meter, with the gap after it
const METER_EVERY = 8; // blocks of sound between two values for screen readers

let recorder = null;
let levels = [];
let state = "idle"; // then asking, recording, and idle again
let file = null;
let listeners;

/**
 * @param on.started is given the recorder; returns what takes each block of sound.
 * @param on.stopped is given the recording, a WAV file.
 * @param on.classify is given it when it is to be classified.
 */
export function startCapture(on) {
  listeners = on;
  byId("record").addEventListener("click", () => (state === "recording" ? stop() : start()));
  byId("classify").addEventListener("click", () => listeners.classify(file));
  byId("download").addEventListener("click", keep);
  byId("discard").addEventListener("click", discard);
  window.addEventListener("beforeunload", (event) => {
    if (state === "recording" || (file && !file.kept)) event.preventDefault();
  });
  speaking(render);
  drawLevels();
  // A canvas keeps its colours when the page's change.
  const repaint = () => requestAnimationFrame(drawLevels);
  byId("theme").addEventListener("change", repaint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}

/** Save the recording as a file. */
function keep() {
  save(file, file.name);
  file.kept = true;
}

/** What saves a recording where there is one: the last way out of any trouble. */
export const keeping = (which) => (which === file && file !== null ? keep : null);

async function start() {
  if (state !== "idle") return;
  state = "asking";
  byId("player").pause(); // or it would be recorded
  clearTrouble();
  render();
  const starting = new Recorder();
  levels = [];
  let take = () => {};
  try {
    await starting.start(
      (block) => {
        take(block);
        heard(block);
      },
      () => stop(new Problem("microphone-lost")),
    );
    recorder = starting;
    take = listeners.started(recorder);
    state = "recording";
    byId("status").textContent = t("status.recording");
  } catch (problem) {
    state = "idle";
    showTrouble(problem);
  }
  render();
}

async function stop(problem = null) {
  if (state !== "recording") return;
  state = "asking"; // neither twice, nor begun again meanwhile
  const { seconds: length } = recorder;
  const name = `recording-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.wav`;
  file = new File([await recorder.stop()], name, { type: "audio/wav" });
  state = "idle";
  const player = byId("player");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  byId("recording").hidden = false;
  byId("status").textContent = t("status.recorded", { seconds: seconds(length) });
  render();
  if (problem) showTrouble(problem);
  byId("classify").focus();
  await listeners.stopped(file);
}

function discard() {
  file = null;
  const player = byId("player");
  player.pause();
  URL.revokeObjectURL(player.src);
  player.removeAttribute("src");
  player.load(); // lets go of what it has read
  clearTrouble(); // which may offer to save it
  byId("recording").hidden = true;
  byId("clock").textContent = clock(0);
  byId("record").focus();
}

function render() {
  byId("record").dataset.state = state;
  byId("record-label").textContent = t({ asking: "asking", recording: "stop" }[state] ?? "record");
  byId("continuous").disabled = state !== "idle";
}

function heard(block) {
  const peak = block.reduce((loudest, sample) => Math.max(loudest, Math.abs(sample)), 0);
  levels.push(peak);
  if (levels.length % METER_EVERY === 0) {
    byId("meter").setAttribute("aria-valuenow", Math.round(100 * peak));
  }
  if (recorder) byId("clock").textContent = clock(Math.floor(recorder.seconds));
  drawLevels();
}

/** Draw the last seconds, the newest at the right. */
function drawLevels() {
  const canvas = byId("levels");
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const count = Math.floor(width / BAR_PX);
  const last = levels.slice(-count);
  context.clearRect(0, 0, width, height);
  context.fillStyle = getComputedStyle(canvas).color;
  for (let bar = 0; bar < count; bar += 1) {
    // The ear hears in ratios: a root makes quiet speech visible.
    const peak = Math.sqrt(last[bar - count + last.length] ?? 0);
    const tall = Math.max(2, peak * height);
    context.fillRect(bar * BAR_PX, (height - tall) / 2, BAR_PX - 2, tall);
  }
}
