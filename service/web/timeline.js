// A recording over time: its waveform, and below it a lane for each emotion with the windows that
// are of it. Each window is a button with its details; the same is there as a table.

import { draw, make } from "/web/dom.js";
import { clock, emotion, percent, t } from "/web/i18n.js";

const COLUMNS = 800; // of the waveform
const LEAST_PX = 6; // of a segment, before the time line scrolls
const ROUNDED_PX = 2; // that what is scrolled to its end may lack
const TICKS = 6; // at most, beside 0
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]; // seconds between two ticks
const KNOWN = ["angry", "disgusted", "fearful", "happy", "neutral", "relaxed", "sad", "surprised"];

/** The loudest sample of each column; of peaks, too. */
export function peaksOf(samples) {
  const count = Math.min(COLUMNS, samples.length);
  return Array.from({ length: count }, (_, column) => {
    const [from, to] = [column, column + 1].map((at) => Math.floor((at * samples.length) / count));
    let peak = 0;
    for (let at = from; at < to; at += 1) peak = Math.max(peak, Math.abs(samples[at]));
    return peak;
  });
}

/** A colour's name for a label; those of other models get theirs by their place. */
export const tone = (label, labels) =>
  KNOWN.includes(label) ? label : KNOWN[labels.indexOf(label) % KNOWN.length];

/**
 * The part of the time line that is a segment's own: windows overlap, and the middle of an overlap
 * parts them.
 */
export function shares(segments) {
  return segments.map((segment, at) => {
    const [before, after] = [segments[at - 1], segments[at + 1]];
    const middle = (one, other) => (other.start_s < one.end_s ? (one.end_s + other.start_s) / 2 : 0);
    return [
      (before && middle(before, segment)) || segment.start_s,
      (after && middle(segment, after)) || segment.end_s,
    ];
  });
}

/** Say a segment in words. */
export function said(segment) {
  const span = { start: clock(segment.start_s, 1), end: clock(segment.end_s, 1) };
  if (segment.gap) return t("timeline.gap", span);
  if (segment.label === null) return t("timeline.silence", span);
  const { label, score } = segment;
  return t("timeline.speech", { ...span, label: emotion(label), score: percent(score) });
}

/**
 * Draw into a container what was there before, too, keeping the focus and the place: what is
 * scrolled to the end stays at the end.
 *
 * @param peaks of the waveform, from 0 to 1; empty where the browser can't decode the recording.
 * @param play is called with a segment that is pressed; null where there is nothing to hear.
 */
export function showTimeline(container, { durationS, segments, labels, peaks, play = null }) {
  const held = [...container.querySelectorAll(".track button")].indexOf(document.activeElement);
  const open = container.querySelector("details")?.open ?? false;
  const before = container.querySelector(".scroll");
  const left = before?.scrollLeft ?? 0;
  const atEnd = before && before.scrollWidth - before.clientWidth - left < ROUNDED_PX;
  const details = make("p", { className: "hint detail" }, t(`timeline.${play ? "hint" : "look"}`));
  const at = (value) => `${(100 * value) / durationS}%`;
  const buttons = shares(segments).map(([start, end], index) => {
    const segment = segments[index];
    const mark = make("span", { className: "mark" });
    mark.style.setProperty("--lane", labels.indexOf(segment.label));
    const button = make(
      "button",
      {
        type: "button",
        "aria-label": said(segment),
        "data-tone": segment.label && tone(segment.label, labels),
        "data-kind": segment.gap ? "gap" : segment.label === null ? "silence" : "speech",
        tabIndex: index === Math.max(held, 0) ? 0 : -1,
        click: () => play?.(segment),
        focus: () => (details.textContent = said(segment)),
        pointerenter: () => (details.textContent = said(segment)),
      },
      mark,
    );
    button.style.left = at(start);
    button.style.width = at(end - start);
    return button;
  });
  const track = make(
    "div",
    { className: "track", role: "toolbar", "aria-label": t("timeline"), keydown: move(buttons) },
    waveform(peaks),
    ...buttons,
  );
  track.style.setProperty("--lanes", labels.length);
  const wide = make("div", {}, track, axis(durationS, at)); // the times below are those above
  wide.style.minWidth = `${segments.length * LEAST_PX}px`;
  const scroll = make("div", { className: "scroll" }, wide);
  container.replaceChildren(
    make(
      "div",
      { className: "timeline" },
      make(
        "ul",
        { className: "lanes", "aria-hidden": "true" },
        ...labels.map((label) =>
          make("li", { "data-tone": tone(label, labels) }, make("span", {}, emotion(label))),
        ),
      ),
      scroll,
    ),
    details,
    make("details", { open }, make("summary", {}, t("timeline.table")), table(segments)),
  );
  scroll.scrollLeft = atEnd ? scroll.scrollWidth : left;
  buttons[held]?.focus({ preventScroll: true });
}

/** Arrow keys, Home and End move between buttons, of which one can be reached by Tab. */
function move(buttons) {
  return (event) => {
    const from = buttons.indexOf(document.activeElement);
    const to = {
      ArrowLeft: from - 1,
      ArrowRight: from + 1,
      Home: 0,
      End: buttons.length - 1,
    }[event.key];
    if (!buttons[to]) return;
    event.preventDefault();
    buttons[from].tabIndex = -1;
    buttons[to].tabIndex = 0;
    buttons[to].focus();
  };
}

function waveform(peaks) {
  const loudest = peaks.reduce((most, peak) => Math.max(most, peak), 0.05); // a quiet room is to look quiet
  const heights = peaks.map((peak) => 1 + (47 * peak) / loudest);
  const upper = heights.map((height, x) => `${x} ${(50 - height).toFixed(1)}`);
  const lower = heights.map((height, x) => `${x} ${(50 + height).toFixed(1)}`).reverse();
  const path = peaks.length ? `M${upper.join("L")}L${lower.join("L")}Z` : "M0 50H1";
  return draw(
    "svg",
    {
      viewBox: `0 0 ${Math.max(peaks.length - 1, 1)} 100`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
      class: "wave",
    },
    draw("path", { d: path }),
  );
}

function axis(durationS, at) {
  const step = STEPS.find((every) => durationS / every <= TICKS) ?? STEPS.at(-1);
  const ticks = Array.from({ length: Math.floor(durationS / step) + 1 }, (_, tick) => tick * step);
  return make(
    "div",
    { className: "axis", "aria-hidden": "true" },
    ...ticks.map((value) => {
      const tick = make("span", {}, clock(value));
      tick.style.left = at(value);
      return tick;
    }),
  );
}

function table(segments) {
  const heads = ["from", "to", "emotion", "confidence"].map((name) => t(`timeline.${name}`));
  const row = (segment) => [
    clock(segment.start_s, 1),
    clock(segment.end_s, 1),
    segment.gap ? t("timeline.skipped") : segment.label ? emotion(segment.label) : t("timeline.none"),
    segment.label ? percent(segment.score) : "",
  ];
  return make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make(
      "tbody",
      {},
      ...segments.map((one) => make("tr", {}, ...row(one).map((cell) => make("td", {}, cell)))),
    ),
  );
}
