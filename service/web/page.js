// The page: send the chosen recording to /v1/classify and show what comes back.

const byId = (id) => document.getElementById(id);
const percent = (score) => `${Math.round(score * 100)} %`;

const VERDICT = {
  accept: (answer) => `${answer.label} (${percent(answer.score)})`,
  review: (answer) =>
    `Not sure: ${answer.top.map((one) => `${one.label} (${percent(one.score)})`).join(" or ")}`,
  no_speech: () => "No speech found",
};

function show(answer) {
  byId("verdict").textContent = VERDICT[answer.decision](answer);
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  byId("bars").replaceChildren(...ranked.map(([label, score]) => {
    const row = document.createElement("li");
    const name = document.createElement("span");
    const meter = document.createElement("meter");
    const value = document.createElement("span");
    name.textContent = label;
    meter.value = score;
    meter.setAttribute("aria-label", label);
    value.textContent = percent(score);
    row.append(name, meter, value);
    return row;
  }));
  const { audio, model, timing_ms: timing } = answer;
  byId("details").textContent =
    `${audio.duration_s} s of audio, ${audio.speech_s} s of speech; ` +
    `${model.name} ${model.version} (${model.track}), ${Math.round(timing.total)} ms.`;
  byId("answer").hidden = false;
}

async function classify(file) {
  byId("answer").hidden = true;
  byId("status").textContent = "Listening …";
  try {
    const response = await fetch("/v1/classify", {
      method: "POST",
      headers: { "content-type": "application/octet-stream" },
      body: file,
    });
    const answer = await response.json();
    byId("status").textContent = response.ok ? "" : `${answer.title}. ${answer.detail}`;
    if (response.ok) show(answer);
  } catch {
    byId("status").textContent = "The server cannot be reached. Choose the recording again to retry.";
  }
}

byId("clip").addEventListener("change", ({ target }) => {
  if (target.files.length) classify(target.files[0]);
});
