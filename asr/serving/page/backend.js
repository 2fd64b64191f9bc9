// What recognises: this server. A page without a server has another file in place of this one, with the same functions.

let token = "";

export class Locked extends Error {}

export function unlock(text) { token = text; }

// Return what is found in a recording as an object with duration, phones and words (label, start, end, confidence).
export async function recognise(file, options) {
  return JSON.parse(await write(file, options, "json"));
}

// Return the same as text in another format: textgrid, srt, ctm or json.
export async function write(file, { text, ipa }, format) {
  const words = document.documentElement.dataset.words === "true";
  const fields = text ? { text, ipa } : { words, ipa };
  const body = new FormData();
  for (const [name, value] of Object.entries({ ...fields, response_format: format })) body.append(name, value);
  body.append("file", file, file.name);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(text ? "v1/align" : "v1/phones", { method: "POST", body, headers });
  if (answer.ok) return answer.text();
  const { message } = (await answer.json()).error;
  throw answer.status === 401 ? new Locked(message) : new Error(message);
}
