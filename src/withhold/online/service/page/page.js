"use strict";

// A strip of rows is decoded at a time, so that large pictures need little memory.
const STRIP_PIXELS = 1 << 20;
// More pixels than these are not drawn: a screen has fewer, and some browsers refuse larger canvases.
const MOST_DRAWN = 4e6;
// Pictures of fewer pixels to a side are enlarged without smoothing.
const SMALL = 200;
const MIDDLE = 128;
const OPAQUE = 255;

const element = (id) => document.getElementById(id);
const field = { token: element("token"), file: element("file"), label: element("label"), speed: element("speed") };
const state = { about: null, file: null, key: newKey(), running: null, pair: null, address: null };

// What was chosen

function choose(file) {
  if (state.running) return;
  state.file = file;
  element("chosen").textContent = file ? `${file.name || "Pasted picture"} (${size(file.size)})`
    : "Choose a picture, drop one here, or paste it.";
  begin();
  field.file.removeAttribute("aria-invalid");
  clear();
  if (file) preview(file);
}

function begin() {
  state.key = newKey();  // the same key again would mean the same content
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function preview(file) {
  try {
    const bitmap = await createImageBitmap(file);
    if (file === state.file) draw("original", bitmap, "The original picture");
  } catch {
    if (file === state.file) blank("original", "This browser cannot show this file. The service may know its kind.");
  }
}

// The service

async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { ...options, cache: "no-store", credentials: "omit", headers: {
      Authorization: `Bearer ${token()}`, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service cannot be reached. Check the connection, and try again.");
  }
  if (!answer.ok) throw Object.assign(new Error(await problem(answer)), { status: answer.status });
  return answer;
}

async function problem(answer) {
  if (answer.status === 401) return "The service does not know this token. Enter the one that you were given.";
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string" && detail) return detail;
  } catch { /* not one of the service's own answers */ }
  return `The service answered with status ${answer.status}.`;
}

function token() {
  return field.token.value.trim();
}

async function learn() {
  element("usage").textContent = "";
  if (!token() || !sendable(token())) return;
  try {
    state.about = await (await ask("v1/protector")).json();
    offer(state.about);
    if (field.token.hasAttribute("aria-invalid")) accept();
    await count();
  } catch (error) {
    refuse(error);
  }
}

function offer(about) {
  element("classes").replaceChildren(...about.classes.map((name) => Object.assign(document.createElement("option"),
    { value: name })));
  const chosen = field.speed.dataset.touched ? field.speed.value : about.speed;
  for (const option of field.speed.options) {
    option.disabled = !(option.value in about.speeds);
    option.selected = option.value === chosen;
  }
}

async function count() {
  const usage = await (await ask("v1/usage")).json();
  const today = usage.images_per_day === null ? `${usage.images_today} pictures today`
    : `${usage.images_today} of ${usage.images_per_day} pictures today`;
  const pairs = usage.pairs_limit === null ? `${usage.pairs} pairs`
    : `${usage.pairs} of ${usage.pairs_limit} pairs of original and released picture`;
  element("usage").textContent = `${usage.client}: ${today}, ${pairs}.`;
}

// Protecting

async function protect() {
  accept();
  if (!ready()) return;
  const { file } = state;
  const form = new FormData();
  form.append("image", file);
  if (field.label.value.trim()) form.append("label", field.label.value.trim());
  form.append("speed", field.speed.value);
  work(new AbortController());
  try {
    const headers = { "Idempotency-Key": state.key };
    const answer = await ask("v1/protect", { method: "POST", body: form, headers, signal: state.running.signal });
    const released = await answer.blob();
    await show(file, released, answer.headers);
    rest("Done. The released picture can be downloaded.");
    element("result").focus({ preventScroll: true });
    element("result").scrollIntoView({ block: "nearest" });
    await count();
  } catch (error) {
    rest(error.name === "AbortError" ? "Cancelled." : "");
    if (error.name !== "AbortError") refuse(error);
  }
}

function ready() {
  const limit = state.about?.limits.image_bytes;
  if (!token()) return refuse(new Error("Enter your token first."), field.token);
  if (!sendable(token())) return refuse(new Error("This is no token: tokens have no spaces or letters with accents."), field.token);
  if (!state.file) return refuse(new Error("Choose a picture first."), field.file);
  if (limit && state.file.size > limit) {
    return refuse(new Error(`The file has ${size(state.file.size)}, and the service takes ${size(limit)}. Choose a smaller one.`), field.file);
  }
  return true;
}

function sendable(text) {
  return /^[\x21-\x7e]+$/.test(text);
}

function work(controller) {
  state.running = controller;
  document.body.classList.add("busy");
  element("status").textContent = "Protecting";
  element("protect").disabled = true;
  element("cancel").hidden = false;
  clear();
}

function rest(text) {
  state.running = null;
  document.body.classList.remove("busy");
  element("status").textContent = text;
  element("protect").disabled = false;
  element("cancel").hidden = true;
}

function refuse(error, where = error.status === 401 ? field.token : null) {
  element("problem").textContent = error.message;
  if (where) {
    where.setAttribute("aria-invalid", "true");
    where.focus();
  }
  return false;
}

function accept() {
  element("problem").textContent = "";
  for (const each of Object.values(field)) each.removeAttribute("aria-invalid");
}

// What came of it

async function show(file, released, headers) {
  const number = (name) => Number(headers.get(name));
  const given = headers.get("Withhold-Label-Given") === "true";
  draw("released", await createImageBitmap(released), "The released picture");
  state.pair = await align(file, released, state.about?.largest_change);
  const measured = state.pair && magnify();
  if (!measured) blank("difference", "This browser cannot read the original, so the difference is not shown.");
  const label = decodeURIComponent(headers.get("Withhold-Label"));
  const rows = {
    "What it shows": given ? label : `${label}, as the service sees it`,
    Speed: headers.get("Withhold-Speed"),
    "Largest change": `${levels(number("Withhold-Largest-Change"))}, says the service`,
    ...(measured && { "Measured here": `${levels(measured.largest)}, in ${measured.share} % of the pixels` }),
    "Likeness (PSNR)": `${number("Withhold-PSNR").toFixed(1)} dB`,
    "File size": `${size(file.size)} before, ${size(released.size)} after`,
  };
  list("numbers", rows);
  list("fingerprints", { Original: headers.get("Withhold-SHA256-Before"), Released: headers.get("Withhold-SHA256-After"),
    Protector: headers.get("Withhold-Protector") });
  judge(measured, state.about?.largest_change, file, headers);
  offerDownload(file, released);
  element("outcome").hidden = false;
}

function judge(measured, bound, file, headers) {
  const verdict = element("verdict");
  const lossless = ["image/png", "image/bmp"].includes(file.type);
  const within = measured && bound && measured.largest <= bound;
  verdict.classList.toggle("problem", Boolean(measured && bound && !within && lossless));
  if (!measured) verdict.textContent = "";
  else if (within) verdict.textContent = `Measured from both files here: no channel of a pixel changed by more than the ${levels(bound)} that are allowed.`;
  else if (!bound) verdict.textContent = "";
  else if (lossless) verdict.textContent = `Measured from both files here, the change is larger than the ${levels(bound)} that are allowed. Do not publish it, and tell whoever keeps this service.`;
  else verdict.textContent = `The service keeps the change within ${levels(bound)} of the picture as it decodes it. This browser decodes the original a little differently, so what is measured here is larger.`;
  if (measured?.translucent) verdict.textContent += " Pixels that are not opaque were not measured.";
}

// Decode both files so that their pixels lie on each other: a browser may turn one upright and not the other.
async function align(file, released, bound) {
  let best = null;
  for (const imageOrientation of ["from-image", "none"]) {
    const options = { imageOrientation, premultiplyAlpha: "none", colorSpaceConversion: "none" };
    try {
      const [before, after] = await Promise.all([file, released].map((each) => createImageBitmap(each, options)));
      if (before.width !== after.width || before.height !== after.height) continue;
      const { largest } = compare({ before, after }, 1);
      if (!best || largest < best.largest) best = { before, after, largest };
      if (largest <= bound) return best;
    } catch {
      return null;
    }
  }
  return best;
}

function magnify() {
  const factor = Number(element("magnify").value);
  element("times").textContent = factor;
  const { before } = state.pair;
  const canvas = sized("difference", before.width, before.height);
  const target = canvas.getContext("2d");
  target.imageSmoothingEnabled = false;
  const scale = canvas.height / before.height;
  const measured = compare(state.pair, factor, (strip, top, rows) => {
    target.drawImage(strip, 0, 0, before.width, rows, 0, top * scale, canvas.width, rows * scale);
  });
  reveal("difference", `The difference, magnified ${factor} times; grey is no change`);
  return measured;
}

// Go through two pictures of one size, strip by strip; what is not opaque in both of them is left out.
function compare({ before, after }, factor, each = () => {}) {
  const { width, height } = before;
  const step = Math.max(1, Math.floor(STRIP_PIXELS / width));
  const found = { largest: 0, changed: 0, translucent: false };
  for (let top = 0; top < height; top += step) {
    const rows = Math.min(step, height - top);
    const [one, other] = [before, after].map((bitmap) => pixels(bitmap, top, rows));
    const strip = new ImageData(width, rows);
    for (let at = 0; at < one.length; at += 4) {
      strip.data[at + 3] = OPAQUE;
      const opaque = one[at + 3] === OPAQUE && other[at + 3] === OPAQUE;
      found.translucent ||= !opaque;
      let most = 0;
      for (let channel = at; channel < at + 3; channel += 1) {
        const change = opaque ? other[channel] - one[channel] : 0;
        strip.data[channel] = MIDDLE + factor * change;  // the array clamps it
        most = Math.max(most, Math.abs(change));
      }
      found.largest = Math.max(found.largest, most);
      found.changed += most > 0;
    }
    const surface = canvasOf(width, rows);
    surface.getContext("2d").putImageData(strip, 0, 0);
    each(surface, top, rows);
  }
  return { ...found, share: ((100 * found.changed) / (width * height)).toFixed(1) };
}

function pixels(bitmap, top, rows) {
  const context = canvasOf(bitmap.width, rows).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, -top);
  return context.getImageData(0, 0, bitmap.width, rows).data;
}

function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

// Drawing and writing

function draw(id, bitmap, description) {
  const canvas = sized(id, bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  reveal(id, `${description}, ${bitmap.width} by ${bitmap.height} pixels`);
}

function sized(id, width, height) {
  const canvas = element(id).querySelector("canvas");
  const scale = Math.min(1, Math.sqrt(MOST_DRAWN / (width * height)));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.classList.toggle("small", Math.max(width, height) < SMALL);
  return canvas;
}

function reveal(id, description) {
  const canvas = element(id).querySelector("canvas");
  canvas.hidden = false;
  canvas.setAttribute("aria-label", description);
  element(id).querySelector("p").textContent = "";
}

function blank(id, text = "") {
  const canvas = element(id).querySelector("canvas");
  canvas.hidden = true;
  canvas.setAttribute("aria-label", "No picture yet");
  element(id).querySelector("p").textContent = text;
}

function clear() {
  if (!state.file) blank("original");
  blank("released");
  blank("difference");
  state.pair = null;
  element("outcome").hidden = true;
  if (state.address) URL.revokeObjectURL(state.address);
  state.address = null;
}

function list(id, rows) {
  element(id).replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [["dt", name], ["dd", value]])
    .map(([kind, text]) => Object.assign(document.createElement(kind), { textContent: text })));
}

function offerDownload(file, released) {
  state.address = URL.createObjectURL(released);
  const stem = (file.name || "picture").replace(/\.[^.]*$/, "");
  Object.assign(element("download"), { href: state.address, download: `${stem}-released.${released.type.split("/")[1]}` });
}

function levels(count) {
  return `${Number(count.toFixed(2))} of 255 levels`;
}

function size(bytes) {
  if (bytes < 1e3) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// Events

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!state.running) protect();
});
element("cancel").addEventListener("click", () => state.running?.abort());
element("magnify").addEventListener("input", () => state.pair && magnify());
element("reveal").addEventListener("click", ({ target }) => {
  const shown = field.token.type === "text";
  field.token.type = shown ? "password" : "text";
  target.setAttribute("aria-pressed", String(!shown));
  target.textContent = shown ? "Show" : "Hide";
});
field.token.addEventListener("change", () => {
  sessionStorage.setItem("token", token());
  learn();
});
field.file.addEventListener("change", () => choose(field.file.files[0] ?? null));
field.label.addEventListener("input", begin);
field.speed.addEventListener("change", () => {
  field.speed.dataset.touched = "yes";
  begin();
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();  // a picture that misses its place must not replace the page
    document.body.classList.toggle("dragging", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) choose(event.clipboardData.files[0]);
});
field.token.value = sessionStorage.getItem("token") ?? "";
learn();
