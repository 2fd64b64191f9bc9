// What recognises: this server. A page without a server has another file in place of this one, with the same exports.

const PROTOCOL = "asr"; // of the WebSocket
const hasWords = document.documentElement.dataset.words === "true";

let token = "";

export class Locked extends Error {}

export function unlock(text) { token = text; }

// Return what is found in a recording: duration, phones and perhaps words, each with label, start, end and confidence.
// With a text its words are placed; with isLearner scores, mistakes and the grades of words and phones are found, too.
// Where the text does not fit, there is a remark.
export async function recognise(file, { text, ipa, isLearner }) {
  if (!text) return post("v1/phones", file, { ipa, words: hasWords });
  if (!isLearner) return post("v1/align", file, { ipa, text });
  const found = await post("v1/pronunciation", file, { ipa, text });
  return { ...found, phones: found.words.flatMap((word) => word.phones) };
}

// Return posteriors: labels, frameShift (seconds), and values, a byte for each label in each frame, of which 255 is 1.
export async function posteriors(file, { ipa }) {
  const { labels, frame_shift: frameShift, values } = await post("v1/posteriors", file, { ipa });
  const letters = atob(values), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return { labels, frameShift, values: bytes };
}

// Return labels (duration, phones and perhaps words) as text in a format: textgrid, eaf, ctm or srt.
export async function convert(labels, name, format) {
  const answer = await send("v1/convert", new File([JSON.stringify(labels)], name), { response_format: format });
  return answer.text();
}

// Open a stream of samples: { send(samples), end() }, where samples are int16 at `rate` (Hz). `onAnswer` gets what is
// known of the phrase that goes on ({ partial, phones }) and of each that has ended ({ text, result, phones }), and
// `onEnd` what went wrong, or null.
export function stream(rate, { ipa }, onAnswer, onEnd) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(token));
  const bearer = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const socket = new WebSocket(
    new URL("v1/stream", document.baseURI.replace(/^http/, "ws")),
    token ? [PROTOCOL, `${PROTOCOL}.bearer.${bearer}`] : [PROTOCOL],
  );
  const waiting = [JSON.stringify({ config: { sample_rate: rate, ipa } })];
  const transmit = (message) => {
    if (socket.readyState === WebSocket.CONNECTING) waiting.push(message);
    else socket.send(message);
  };
  let fault = null, isEnding = false;
  socket.onopen = () => waiting.forEach((message) => socket.send(message));
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    if (answer.error) fault = answer.error.message;
    else onAnswer(answer);
  };
  socket.onclose = () => {
    if (!isEnding) fault ??= "The stream broke off: too many are open, or the token is wrong";
    onEnd(fault);
  };
  const end = () => {
    isEnding = true;
    transmit('{"eof": 1}');
  };
  return { send: (samples) => transmit(samples.buffer), end };
}

async function post(path, file, fields) {
  const answer = await send(path, file, fields), remark = answer.headers.get("Asr-Remark");
  return { ...(await answer.json()), ...(remark ? { remark: decodeURIComponent(remark) } : {}) };
}

async function send(path, file, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  body.append("file", file, file.name);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { method: "POST", body, headers });
  if (answer.ok) return answer;
  const { message } = (await answer.json()).error;
  throw answer.status === 401 ? new Locked(message) : new Error(message);
}
