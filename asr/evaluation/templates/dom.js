// Making elements, printing numbers, and the small box that follows the pointer.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/** Set attributes; `on…` are listeners, null and false leave an attribute out. */
function assign(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

/** Make an HTML element; children are nodes or text, which is never read as HTML. */
function el(tag, attributes = {}, ...children) {
  const node = assign(document.createElement(tag), attributes);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = assign(document.createElementNS(SVG_NAMESPACE, tag), attributes);
  node.append(...children.flat());
  return node;
}

function button(text, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

/** What is counted in the evaluation that is shown. */
let unit = { rate: "PER", one: "Phone", many: "Phones" };
function countIn({ unit: name }) {
  unit = name === "characters"
    ? { rate: "CER", one: "Character", many: "Characters" }
    : { rate: "PER", one: "Phone", many: "Phones" };
}

const fixed = (value, digits) => value.toFixed(digits);
const percent = (value, digits = 2) => `${fixed(value, digits)} %`;
const whole = (value) => Math.round(value).toLocaleString("en-GB");
const interval = (bounds) => (bounds ? `${fixed(bounds[0], 2)} – ${fixed(bounds[1], 2)}` : "–");

/** Seconds as a person would say them: 4.2 s, 3 min 20 s, 2 h 5 min. */
function duration(seconds) {
  if (seconds < 60) return `${fixed(seconds, seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Scroll to a node, at once for those who ask for less motion. */
function reveal(node, block = "nearest") {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  node.scrollIntoView({ behavior: still ? "auto" : "smooth", block });
}

function showTip(text, event) {
  const tip = document.getElementById("tip");
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 12, document.documentElement.clientWidth - width - 4);
  const above = event.clientY - height - 10;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${above > 0 ? above : event.clientY + 16}px`;
}

function hideTip(event) {
  if (event?.type === "pointerleave" && event.pointerType === "touch") return; // a finger that is lifted has left
  document.getElementById("tip").hidden = true;
}
for (const name of ["pointerdown", "scroll"]) document.addEventListener(name, hideTip, { capture: true, passive: true });

/** Attributes of a shape that tells what it is when it is pointed at or tapped. */
function tipped(text) {
  const show = (event) => showTip(text, event);
  return { onpointermove: show, onpointerdown: show, onpointerleave: hideTip };
}
