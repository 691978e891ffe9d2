// What went wrong and what to do about it; while the server asks to wait, for how long.

import { useToken } from "/web/api.js";
import { byId, make } from "/web/dom.js";
import { current, has, speaking, t } from "/web/i18n.js";

/** Problems of a recording, which trying again does not solve. */
const LASTING = new Set([
  ...["not-audio", "unsupported-format", "too-large", "too-long", "too-long-here", "no-samples"],
  ...["sample-rate", "channels", "not-finite", "undecodable"],
]);

let shown = null;
let wait = null; // the one under way: how to end it

/** Take it away. */
export function clearTrouble() {
  shown = null;
  wait = null;
  byId("trouble").replaceChildren();
}

/**
 * Show a problem until it is dismissed, solved or another comes.
 *
 * @param retry does again what failed; offered where it may help.
 * @param keep saves the recording that could not be sent.
 */
export function showTrouble(problem, { retry = null, keep = null } = {}) {
  wait = null;
  shown = () => {
    const slug = has(`problem.${problem.slug}`) ? problem.slug : problem.status ? "refused" : "page";
    const again = retry && !LASTING.has(slug) && leaving(retry);
    return card(
      { "data-problem": slug },
      slug,
      problem.detail && problem.status
        ? make("p", { className: "hint", lang: "en" }, t("said", { detail: problem.detail }))
        : null,
      slug === "unauthorized" ? tokenForm(again ?? leaving()) : null,
      make(
        "div",
        { className: "actions" },
        again && slug !== "unauthorized" ? button("retry", again, "strong") : null,
        keep && button("keep", keep),
        button("dismiss", leaving(), "quiet"),
      ),
    );
  };
  render();
}

/**
 * Show that the server asks to wait, and how many seconds are left.
 *
 * @param slug of the problem it answered with.
 * @param ways.hurry ends the wait.
 * @param ways.cancel gives up.
 */
export function showWait(slug, left, ways) {
  const before = wait;
  wait = { slug, left, ...ways };
  if (before?.slug === slug) {
    byId("trouble").querySelector("[role=timer]").textContent = t("again", { seconds: left });
    return; // the alert stays as it is, or it would be read out every second
  }
  shown = () =>
    card(
      { "data-problem": slug },
      slug,
      make("p", { role: "timer", className: "countdown" }, t("again", { seconds: wait.left })),
      make(
        "div",
        { className: "actions" },
        button("now", () => wait.hurry(), "strong"),
        button("cancel", () => leaving(wait.cancel)(), "quiet"),
      ),
    );
  render();
}

/** Take the trouble away and do something; the focus stays near, instead of at the page's top. */
const leaving = (then = () => {}) => () => {
  clearTrouble();
  byId("status").focus();
  then();
};

function render() {
  if (shown) byId("trouble").replaceChildren(shown());
}
speaking(render);

function card(attributes, slug, ...rest) {
  return make(
    "section",
    { className: "card trouble", ...attributes },
    make(
      "div",
      { role: "alert", lang: current() },
      make("h2", {}, t(`problem.${slug}`)),
      make("p", {}, t(`problem.${slug}.do`)),
    ),
    ...rest,
  );
}

const button = (key, click, kind = "") =>
  make("button", { type: "button", className: `button ${kind}`, click }, t(key));

function tokenForm(then) {
  const input = make("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    required: true,
    pattern: "\\s*[\\x21-\\x7e]+\\s*", // what a header can carry
    title: t("token.odd"),
    "aria-describedby": "token-why",
  });
  return make(
    "form",
    {
      className: "token",
      submit: (event) => {
        event.preventDefault();
        useToken(input.value.trim());
        then();
      },
    },
    make("label", { htmlFor: "token" }, t("token")),
    make(
      "div",
      { className: "actions" },
      input,
      make("button", { type: "submit", className: "button strong" }, t("token.send")),
    ),
    make("p", { id: "token-why", className: "hint" }, t("token.why")),
  );
}
