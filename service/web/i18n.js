// The page's language: the browser's at first, another when chosen, and remembered.

import { choices } from "/web/memory.js";
import { WORDS } from "/web/words.js";

const CHOICE = "timbre.language";
const renders = new Set();
let language = [choices.get(CHOICE), ...navigator.languages.map((tag) => tag.slice(0, 2))]
  .concat("en")
  .find((tag) => tag in WORDS);

export const current = () => language;

/** Say what a key means, with the blanks filled in. */
export const t = (key, blanks = {}) =>
  WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => blanks[name]);

/** Name an emotion; what a model of one's own calls its labels is shown as it is. */
export const emotion = (label) => WORDS[language][`label.${label}`] ?? label;

/** Whether there are words for a key. */
export const has = (key) => key in WORDS[language];

const number = (value, options) => new Intl.NumberFormat(language, options).format(value);
const unit = (value, symbol, maximumFractionDigits) =>
  `${number(value, { maximumFractionDigits })}\u00a0${symbol}`;

export const percent = (share) => number(share, { style: "percent" });
export const seconds = (value) => unit(value, "s", 1);
export const milliseconds = (value) => unit(value, "ms", value < 10 ? 1 : 0);
export const kilohertz = (hertz) => unit(hertz / 1000, "kHz", 2);

/** Say a point in time: 0:03, or 0:03.5 where tenths matter. */
export function clock(value, digits = 0) {
  const scale = 10 ** digits;
  const ticks = Math.round(value * scale);
  const rest = ((ticks / scale) % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${Math.floor(ticks / scale / 60)}:${rest}`;
}

/** Have `render` called now, and whenever the language changes. */
export function speaking(render) {
  renders.add(render);
  render();
}

/** Change the language, for now and the next time. */
export function choose(tag) {
  language = tag;
  choices.set(CHOICE, tag);
  renders.forEach((render) => render());
}

/** Put words into the elements that ask for them. */
export function translate() {
  document.documentElement.lang = language;
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-i18n]")) {
    element.textContent = t(element.dataset.i18n);
  }
  for (const element of document.querySelectorAll("[data-i18n-label]")) {
    element.setAttribute("aria-label", t(element.dataset.i18nLabel));
  }
}
