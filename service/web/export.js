// Answers to take away: the command that gives the same, JSON, and CSV as `timbre classify` writes.

import { hasToken } from "/web/api.js";

const AUDIO = ["duration_s", "speech_s", "sample_rate", "channels"];

/**
 * The command for a terminal beside the file: curl, or where it was sent in pieces, timbre's own;
 * null where the browser alone can read the file.
 */
export function command(answer, name, origin = location.origin) {
  if (answer.converted) return null;
  if (answer.pieces) return `timbre classify --timeline --json --url ${origin} ${quoted(name)}`;
  const token = hasToken() ? ' -H "Authorization: Bearer $TIMBRE_TOKEN"' : "";
  const file = quoted(`@${name}`);
  return `curl${token} --data-binary ${file} '${origin}/v1/classify?timeline=true'`;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Rows {name, answer} or {name, problem} as JSON, an object a file. */
export function json(rows) {
  const told = rows.map(({ name, answer, problem }) =>
    problem
      ? { path: name, error: { type: problem.slug, detail: problem.detail } }
      : { path: name, ...answer },
  );
  return new Blob([`${JSON.stringify(told, null, 2)}\n`], { type: "application/json" });
}

/** The same rows by RFC 4180, with the columns of `timbre classify --csv`. */
export function csv(rows, labels) {
  const heads = ["path", "label", "score", "decision", ...AUDIO];
  const lines = rows.map(({ name, answer, problem }) => [
    name,
    ...["label", "score", "decision"].map((field) => answer?.[field]),
    ...AUDIO.map((field) => answer?.audio[field]),
    ...labels.map((label) => answer?.probabilities[label]),
    problem && (problem.detail || problem.slug),
  ]);
  const all = [[...heads, ...labels.map((label) => `p_${label}`), "error"], ...lines];
  const text = all.map((line) => `${line.map(field).join(",")}\r\n`).join("");
  return new Blob([text], { type: "text/csv" });
}

function field(value) {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
