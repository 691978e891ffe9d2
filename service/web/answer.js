// The answer to one recording: emotion, confidence, decision, all classes, the time line, and how it
// came about.

import { ranking } from "/web/clips.js";
import { byId, copy, draw, make } from "/web/dom.js";
import { command } from "/web/export.js";
import { emotion, kilohertz, milliseconds, percent, seconds, speaking, t } from "/web/i18n.js";
import { showTimeline, tone } from "/web/timeline.js";

const RING = 2 * Math.PI * 20; // of the confidence, round
const section = byId("answer");
const listening = new Audio();
let shown = null;

/** Say an answer in a few words. */
export function verdict({ decision, top }) {
  if (decision === "no_speech") return t("answer.none");
  const [first, second] = top.map(({ label }) => emotion(label));
  return second ? t("answer.or", { first, second: second.toLocaleLowerCase() }) : first;
}

/**
 * Show an answer in the place of any before.
 *
 * @param file that was classified, to listen to.
 * @param peaks of its waveform; empty where the browser can't decode it.
 * @param labels of the model.
 * @param tookMs from the request to the answer, as the page saw it.
 */
export function showAnswer({ answer, file, peaks, labels, tookMs }) {
  URL.revokeObjectURL(listening.src);
  listening.src = URL.createObjectURL(file);
  shown = { answer, name: file.name, peaks, labels, tookMs };
  section.hidden = false;
  render();
  byId("verdict").focus({ preventScroll: true });
  section.scrollIntoView({ block: "nearest" });
}

/** Take the answer away, before another one comes. */
export function clearAnswer() {
  listening.pause();
  shown = null;
  section.hidden = true;
}

function render() {
  if (!shown) return;
  const { answer, name, peaks, labels } = shown;
  const timeline = make("div", {});
  section.replaceChildren(
    make("p", { className: "subject" }, name),
    head(answer, labels),
    make("p", { className: "why" }, t(`answer.${answer.decision}.why`)),
    ...(answer.label ? [heading("answer.probabilities"), bars(answer, labels)] : []),
    ...(answer.segments.length ? [heading("answer.timeline"), timeline] : []),
    heading("answer.facts"),
    facts(shown),
    takeAway(answer, name),
  );
  if (answer.segments.length) {
    const { segments } = answer;
    showTimeline(timeline, { durationS: answer.audio.duration_s, segments, labels, peaks, play });
  }
}
speaking(render);

const heading = (key) => make("h3", {}, t(key));

function head(answer, labels) {
  const parts = [
    make(
      "div",
      {},
      make("h2", { id: "verdict", tabIndex: -1 }, verdict(answer)),
      make(
        "p",
        { className: "chip", "data-decision": answer.decision },
        t(`answer.${answer.decision}`),
      ),
    ),
  ];
  if (answer.label) parts.unshift(ring(answer.score));
  const attributes = { "data-tone": answer.label && tone(answer.label, labels) };
  return make("div", { className: "verdict", ...attributes }, ...parts);
}

function ring(score) {
  const circle = (attributes) => draw("circle", { cx: 24, cy: 24, r: 20, ...attributes });
  const filled = circle({ class: "filled", "stroke-dasharray": `${score * RING} ${RING}` });
  return make(
    "div",
    { className: "ring" },
    draw("svg", { viewBox: "0 0 48 48", "aria-hidden": "true" }, circle({}), filled),
    make("p", {}, make("span", { className: "unseen" }, t("answer.confidence")), " ", percent(score)),
  );
}

function bars({ probabilities }, labels) {
  return make(
    "ul",
    { className: "bars" },
    ...ranking(probabilities).map(({ label, score }) => {
      const bar = make("span", { className: "bar", "aria-hidden": "true" }, make("span"));
      bar.firstChild.style.width = `${100 * score}%`;
      return make(
        "li",
        { "data-tone": tone(label, labels) },
        make("span", {}, emotion(label)),
        bar,
        make("span", {}, percent(score)),
      );
    }),
  );
}

function facts({ answer, tookMs }) {
  const { model, audio, timing_ms: timing, pieces } = answer;
  const time = Object.fromEntries(
    Object.entries({ ...timing, all: tookMs }).map(([part, ms]) => [part, milliseconds(ms)]),
  );
  const rows = [
    ["answer.model", `${model.name} ${model.version} (${model.track})`],
    [
      "answer.audio",
      t("answer.audio.said", {
        duration: seconds(audio.duration_s),
        speech: seconds(audio.speech_s),
        rate: kilohertz(audio.sample_rate),
        channels: audio.channels,
      }),
    ],
    ["answer.time", t("answer.time.said", time)],
  ];
  if (pieces) rows.push(["answer.pieces", t("answer.pieces.said", { pieces })]);
  return make(
    "dl",
    {},
    ...rows.flatMap(([key, value]) => [make("dt", {}, t(key)), make("dd", {}, value)]),
  );
}

function takeAway(answer, name) {
  const line = command(answer, name);
  const copying = (key, text) =>
    make(
      "button",
      {
        type: "button",
        className: "button",
        "data-copy": key,
        click: async () => {
          await copy(text);
          byId("status").textContent = t("status.copied");
        },
      },
      t(key),
    );
  return make(
    "div",
    {},
    make(
      "div",
      { className: "actions" },
      copying("answer.json", JSON.stringify(answer, null, 2)),
      line && copying("answer.command", line),
    ),
    line &&
      make(
        "details",
        {},
        make("summary", {}, t("answer.command.heading")),
        make("pre", { tabIndex: 0 }, make("code", {}, line)),
      ),
  );
}

/** Play one segment. */
function play({ start_s: start, end_s: end }) {
  listening.currentTime = start;
  listening.ontimeupdate = () => listening.currentTime >= end && listening.pause();
  listening.play().catch(() => {}); // a format that the server reads and this browser doesn't
}
