// The load of the end-to-end tests: every VU sends the same clip over a connection of its own.
// Which scenarios there are is in the options file that k6 gets beside this script.
import http from "k6/http";
import { sleep } from "k6";
import { Counter, Trend } from "k6/metrics";

const clip = open(__ENV.CLIP, "b");
const parameters = {
  headers: { Host: __ENV.HOST, "Content-Type": "application/octet-stream" },
  timeout: "40s",
};
const retryAfter = Number(__ENV.RETRY_AFTER_S || 0);
const gapFrom = Number(__ENV.GAP_FROM_MS);
const gapTo = Number(__ENV.GAP_TO_MS);

const sent = new Counter("sent"); // clips, however often each was tried
const answered = new Counter("answered"); // clips with the right answer, in the end
const refused = new Counter("refused"); // attempts answered 429
const failedOnce = new Counter("failed_once"); // clips whose first attempt failed
const failed = new Counter("failed"); // clips whose last attempt failed
const opened = new Counter("opened"); // connections
const gaps = new Counter("gaps"); // pauses of a connection as long as the tests are after
const answerMs = new Trend("answer_ms", true); // of attempts that were answered

let idleSince = 0; // every VU has its own

function attempt(number) {
  const started = Date.now();
  if (idleSince && started - idleSince >= gapFrom && started - idleSince <= gapTo) gaps.add(1);
  const answer = http.post(__ENV.URL, clip, parameters);
  idleSince = Date.now();
  if (answer.timings.connecting > 0) opened.add(1);
  if (answer.status === 429) refused.add(1);
  const good = answer.status === 200 && answer.body.includes(__ENV.EXPECTED);
  if (good) {
    answerMs.add(answer.timings.duration);
  } else if (__ENV.TELL === "1") {
    const said = answer.error || (answer.body || "").slice(0, 120);
    console.error(JSON.stringify({ started, ended: idleSince, number, status: answer.status, said }));
  }
  return good;
}

export default function () {
  sent.add(1);
  if (attempt(1)) {
    answered.add(1);
    return;
  }
  failedOnce.add(1);
  if (retryAfter) {
    sleep(retryAfter);
    if (attempt(2)) {
      answered.add(1);
      return;
    }
  }
  failed.add(1);
}

export function handleSummary(data) {
  return { stdout: JSON.stringify(data) };
}
