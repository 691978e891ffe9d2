// Recordings of any length, within a server's limits: decode, cut, send piece by piece, merge.
// The same rule as service/recordings.py, so that the page and the command line answer alike.

import { Problem } from "/web/api.js";
import { rateOf } from "/web/rate.js";
import { wav } from "/web/wav.js";

export const SAMPLE_RATE = 16_000;
export const MAX_BODY_BYTES = 10 * 1024 * 1024;
export const MAX_DURATION_S = 60;
export const SEARCH_S = 12;
export const QUIET_S = 0.3;
export const SHORTEST_S = 3;
const HEAD_BYTES = 1024 * 1024; // of a file, where its header is; an MP3's has a picture before it
const COMMON_RATE = 48_000; // for files of an unknown rate, and of one too high for a piece

/**
 * Answer a recording: its own bytes go out where the server takes them, so that it need not be one
 * that the browser can decode; otherwise pieces of mono whose answers are merged. So go, too, formats
 * that only the browser reads, such as the M4A of phones.
 *
 * @param ask gives the server's answer to one clip.
 * @param threshold gives the model's review threshold, for a merged answer's decision.
 * @param progress is told which piece of how many is being sent.
 * @returns the server's answer, or one of the same shape with `pieces`, their number, and
 *     `converted` where no other client gets it from the same file.
 */
export async function answerOf(file, { ask, threshold, progress = () => {} }) {
  let refused = new Problem("too-long-here");
  if (file.size <= MAX_BODY_BYTES) {
    try {
      return await ask(file);
    } catch (problem) {
      if (problem.slug === "unsupported-format") refused = problem;
      else if (problem.slug !== "too-long") throw problem;
    }
  }
  const unreadable = () => {
    throw refused;
  };
  const cuts = pieces((await decode(file).catch(unreadable)).samples);
  const own = rateOf(new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer()));
  const recording = await decode(file, sendingRate(own)).catch(unreadable);
  const { samples, rate } = recording;
  const parts = [];
  for (const [start, stop] of cuts) {
    progress(parts.length + 1, cuts.length);
    const [from, to] = [start, stop].map((at) => Math.round((at * rate) / SAMPLE_RATE));
    parts.push([start / SAMPLE_RATE, await ask(wav([samples.subarray(from, to)], rate))]);
  }
  const merged = merge(parts, recording, await threshold());
  return refused.status || own === null ? { ...merged, converted: true } : merged;
}

/** The rate to send pieces in: the file's own, so that the server resamples, as it does any clip. */
const sendingRate = (own) =>
  own && 2 * own * MAX_DURATION_S < MAX_BODY_BYTES ? own : COMMON_RATE;

/** Decode to mono at a rate: the mean of the channels, scaled back where it exceeds 1. */
export async function decode(file, rate = SAMPLE_RATE) {
  const context = new OfflineAudioContext(1, 1, rate);
  const buffer = await context.decodeAudioData(await file.arrayBuffer());
  const channels = buffer.numberOfChannels;
  const samples = buffer.getChannelData(0);
  for (let channel = 1; channel < channels; channel += 1) {
    buffer.getChannelData(channel).forEach((sample, at) => (samples[at] += sample));
  }
  let peak = 1;
  for (let at = 0; at < samples.length; at += 1) {
    samples[at] /= channels;
    peak = Math.max(peak, Math.abs(samples[at]));
  }
  if (peak > 1) samples.forEach((sample, at) => (samples[at] = sample / peak));
  return { samples, rate, channels };
}

/** Cut where it is quietest, into pieces [start, stop) that a server takes. */
export function pieces(samples) {
  const longest = MAX_DURATION_S * SAMPLE_RATE;
  const cuts = [0];
  while (samples.length - cuts.at(-1) > longest) {
    const latest = Math.min(cuts.at(-1) + longest, samples.length - SHORTEST_S * SAMPLE_RATE);
    const earliest = latest - SEARCH_S * SAMPLE_RATE;
    cuts.push(earliest + quietest(samples.subarray(earliest, latest)));
  }
  cuts.push(samples.length);
  return cuts.slice(1).map((stop, piece) => [cuts[piece], stop]);
}

/** Find the middle of the `QUIET_S` with the least energy; the last of equals. */
function quietest(samples) {
  const step = SAMPLE_RATE / 100;
  const span = Math.round(QUIET_S * 100);
  const energy = Array.from({ length: Math.floor(samples.length / step) }, (_, at) =>
    samples.subarray(at * step, (at + 1) * step).reduce((sum, sample) => sum + sample * sample, 0),
  );
  let least = Infinity;
  let last = 0;
  for (let at = 0; at + span <= energy.length; at += 1) {
    const sum = energy.slice(at, at + span).reduce((total, one) => total + one, 0);
    if (sum <= least) [least, last] = [sum, at];
  }
  return Math.floor(((2 * last + span) * step) / 2);
}

/** Merge pieces' answers, [start in seconds, answer], by their seconds of speech. */
export function merge(parts, { samples, rate, channels }, threshold) {
  const answers = parts.map(([, answer]) => answer);
  const sum = (value) => answers.reduce((total, answer) => total + value(answer), 0);
  const speaking = answers.filter((answer) => answer.decision !== "no_speech");
  const weight = speaking.reduce((total, answer) => total + answer.audio.speech_s, 0);
  const pooled = (label) =>
    speaking.reduce((p, one) => p + one.audio.speech_s * one.probabilities[label], 0) / weight;
  const labels = Object.keys(speaking[0]?.probabilities ?? {});
  return {
    model: answers[0].model,
    ...decide(Object.fromEntries(labels.map((label) => [label, pooled(label)])), threshold),
    audio: {
      duration_s: samples.length / rate,
      speech_s: sum((answer) => answer.audio.speech_s),
      sample_rate: rate,
      channels,
    },
    segments: parts.flatMap(([start, answer]) =>
      answer.segments.map((segment) => ({
        ...segment,
        start_s: segment.start_s + start,
        end_s: segment.end_s + start,
      })),
    ),
    timing_ms: Object.fromEntries(
      Object.keys(answers[0].timing_ms).map((part) => [part, sum((one) => one.timing_ms[part])]),
    ),
    pieces: parts.length,
  };
}

function decide(probabilities, threshold) {
  const ranked = ranking(probabilities);
  if (!ranked.length) {
    return { label: null, score: null, decision: "no_speech", probabilities, top: [] };
  }
  const accepted = ranked[0].score >= threshold;
  return {
    ...ranked[0],
    decision: accepted ? "accept" : "review",
    probabilities,
    top: ranked.slice(0, accepted ? 1 : 2),
  };
}

/** Labels with their scores, likeliest first; of equals the model's first. */
export const ranking = (probabilities) =>
  Object.entries(probabilities)
    .map(([label, score]) => ({ label, score }))
    .sort((a, b) => b.score - a.score);
