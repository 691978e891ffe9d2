// Several recordings: a table that fills as they are answered, a few at a time.

import { Problem } from "/web/api.js";
import { verdict } from "/web/answer.js";
import { byId, make, save } from "/web/dom.js";
import { csv, json } from "/web/export.js";
import { has, percent, seconds, speaking, t } from "/web/i18n.js";
import { tone } from "/web/timeline.js";

const AT_A_TIME = 2; // one is decoded while the other is in the model; more would only crowd others
const section = byId("files");

/** Rows of {file, answer or problem, note}, in the order in which they were chosen. */
let rows = [];
let labels = [];
let running = null;
let work = null;

/**
 * Classify files, in the place of those before.
 *
 * @param settings.answer gives a file's answer: (file, note, signal) → answer, where `note` takes
 *     what is going on, as a key of the dictionary with its blanks.
 * @param settings.open is called with the row whose details are asked for.
 * @param settings.failed is told of a problem that concerns all, not this file alone.
 */
export function showFiles(files, settings) {
  labels = settings.labels;
  work = settings;
  rows = files.map((file) => ({ file, note: ["files.waiting"] }));
  section.hidden = false;
  run();
}

async function run() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const todo = rows.filter((row) => !row.answer);
  todo.forEach((row) => Object.assign(row, { problem: null, note: ["files.waiting"] }));
  render();
  const worker = async () => {
    for (let row = todo.shift(); row && !signal.aborted; row = todo.shift()) await fill(row, signal);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  if (signal.aborted) return;
  running = null;
  render();
}

async function fill(row, signal) {
  const note = (...said) => {
    row.note = said;
    if (!signal.aborted) render();
  };
  note("files.sending");
  try {
    row.answer = await work.answer(row.file, note, signal);
  } catch (problem) {
    if (signal.aborted) return;
    row.problem = problem instanceof Problem ? problem : new Problem("page");
    if (problem.slug === "unauthorized") {
      running.abort(); // the others would fare no better
      running = null;
      work.failed(problem, run);
    }
  }
  render();
}

function render() {
  if (section.hidden) return;
  const done = rows.filter((row) => row.answer || row.problem).length;
  const failed = rows.some((row) => row.problem);
  const told = rows.map(({ file: { name }, answer, problem }) => ({ name, answer, problem }));
  const { activeElement: focused } = document;
  const held = section.contains(focused) && (focused.dataset.row ?? focused.dataset.action ?? "");
  const button = (key, click, off, kind = "") =>
    make(
      "button",
      { type: "button", className: `button ${kind}`, "data-action": key, click, disabled: off },
      t(key),
    );
  section.replaceChildren(
    make("h2", { id: "files-heading", tabIndex: -1 }, t("files")),
    make(
      "label",
      { className: "progress" },
      t("files.progress", { done, total: rows.length }),
      make("progress", { value: done, max: rows.length }),
    ),
    make("table", {}, head(), make("tbody", {}, ...rows.map(line))),
    make(
      "div",
      { className: "actions" },
      failed ? button("files.retry", run, running !== null, "strong") : null,
      button("files.json", () => save(json(told), "timbre.json"), running !== null),
      button("files.csv", () => save(csv(told, labels), "timbre.csv"), running !== null),
    ),
  );
  if (held === false) return;
  const again = section.querySelector(`[data-row="${held}"], [data-action="${held}"]:enabled`);
  (again ?? byId("files-heading")).focus();
}
speaking(render);

function head() {
  const columns = ["files.file", "files.emotion", "answer.confidence", "files.decision"];
  const heads = [...columns, "files.length"].map((key) => make("th", { scope: "col" }, t(key)));
  return make("thead", {}, make("tr", {}, ...heads));
}

function line({ file, answer, problem, note }, index) {
  const name = answer
    ? make(
        "button",
        {
          type: "button",
          className: "link",
          "data-row": index,
          click: () => work.open(file, answer),
        },
        file.name,
      )
    : file.name;
  const cells = answer
    ? [
        verdict(answer),
        answer.score === null ? "" : percent(answer.score),
        t(`answer.${answer.decision}`),
        seconds(answer.audio.duration_s),
      ]
    : [];
  return make(
    "tr",
    { "data-state": answer ? "done" : problem ? "failed" : "waiting" },
    make("th", { scope: "row" }, name),
    ...(answer
      ? cells.map((cell, at) =>
          make("td", { "data-tone": at || !answer.label ? null : tone(answer.label, labels) }, cell),
        )
      : [make("td", { colSpan: 4, className: problem ? "failure" : "hint" }, state(problem, note))]),
  );
}

function state(problem, note) {
  if (!problem) return t(...note);
  const key = has(`problem.${problem.slug}`) ? problem.slug : "refused";
  return `${t("files.failed")}: ${t(`problem.${key}`)}. ${t(`problem.${key}.do`)}`;
}
