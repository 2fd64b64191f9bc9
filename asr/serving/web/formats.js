// Phones as text in the formats of other tools, as asr.recognition.render writes them.

const LONGEST_CUE = 5, PAUSE = 0.3; // seconds: the longest subtitle, and a silence that ends one

export const writers = {
  ctm: ({ phones }, name) => phones.map(({ label, start, end, confidence }) => {
    const stem = name.replace(/\.[^.]*$/, ""), times = [start, end - start].map(fixed);
    const fields = [stem, "1", ...times, label, ...(confidence == null ? [] : [fixed(confidence)])];
    return fields.map((field) => field.replace(/\s+/g, "_")).join(" ") + "\n";
  }).join(""),
  srt: ({ phones }) => cues(phones).map((cue, i) => {
    const text = cue.map(({ label }) => label).join(" ");
    return `${i + 1}\n${clock(cue[0].start)} --> ${clock(cue.at(-1).end)}\n${text}\n\n`;
  }).join(""),
  textgrid,
};

const fixed = (value) => value.toFixed(3);

function clock(seconds) {
  return new Date(Math.round(1000 * seconds)).toISOString().slice(11, 23).replace(".", ",");
}

function cues(phones) {
  const found = [];
  for (const phone of phones) {
    const cue = found.at(-1);
    if (cue && phone.start - cue.at(-1).end < PAUSE && phone.end - cue[0].start <= LONGEST_CUE) cue.push(phone);
    else found.push([phone]);
  }
  return found;
}

// Praat's short format; empty intervals fill the gaps.
function textgrid({ duration, phones }) {
  const intervals = [];
  let last = 0;
  for (const { label, start, end } of [...phones, { start: duration, end: duration }]) {
    if (start > last) intervals.push([last, start, ""]);
    if (end > start) intervals.push([start, end, label]);
    last = end;
  }
  const head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", 0, duration, "<exists>", 1];
  const rows = intervals.flatMap(([start, end, label]) => [start, end, `"${label.replaceAll('"', '""')}"`]);
  return [...head, '"IntervalTier"', '"phones"', 0, duration, intervals.length, ...rows, ""].join("\n");
}
