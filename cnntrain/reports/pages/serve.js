"use strict";

const FIRST = 10; // classes shown at once
const element = (id) => document.getElementById(id);
// A name without what could act on the text around it, such as marks that turn the direction of writing.
const shown = (name) => name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (letter) => `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}`);
const percent = (share) => `${(100 * share).toFixed(2)}\u00a0%`;
let image = null; // the file at hand
let turn = 0; // of the newest question, so that a late answer to an older one is left out

function fail(message) {
  element("error").textContent = message;
}

function take(file) {
  const maxMib = Number(element("ask").dataset.maxMib);
  if (file.size > maxMib * 2 ** 20) {
    fail(`${shown(file.name)} has ${(file.size / 2 ** 20).toFixed(1)} MiB; at most ${maxMib} MiB are taken.`);
    return;
  }
  image = file;
  ask(null);
}

// Asks for all classes, and for the map of one of them; without a name, of the likeliest.
async function ask(className) {
  const asked = ++turn;
  const file = image;
  const query = new URLSearchParams({ top: 999999, ...(className === null ? { map: 1 } : { map_class: className }) });
  const body = new FormData();
  body.append("image", file);
  fail("");
  document.body.classList.add("busy");
  if (className === null) element("says").textContent = "Looking at it …";
  try {
    const response = await fetch(`predict?${query}`, { method: "POST", body });
    const answer = await response.json();
    if (asked !== turn) return;
    if (!response.ok) throw new Error(answer.error);
    if (className === null) showClasses(file, answer.predictions);
    showMap(className ?? answer.predictions[0].class, answer.activation_map, answer.activation_map_is);
  } catch (error) {
    if (asked !== turn) return;
    if (className === null) element("says").textContent = "";
    if (className === null) element("answer").hidden = true;
    const lost = error instanceof TypeError || error instanceof SyntaxError; // as fetch and JSON say it
    fail(lost ? "No answer came. Is cnntrain serve still running, and the file still there?" : error.message);
  } finally {
    if (asked === turn) document.body.classList.remove("busy");
  }
}

function showClasses(file, predictions) {
  URL.revokeObjectURL(element("photo").src);
  element("photo-figure").hidden = false;
  element("photo").src = URL.createObjectURL(file);
  element("photo-says").textContent = shown(file.name);
  element("says").textContent = `${shown(predictions[0].class)}, ${percent(predictions[0].probability)}`;
  element("classes").replaceChildren(...predictions.map(classRow));
  showRows(FIRST);
  element("answer").hidden = false;
}

function classRow({ class: name, probability }) {
  const part = (kind, text = "") => {
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    return span;
  };
  const bar = part("bar");
  bar.style.width = percent(probability).replace("\u00a0", "");
  const track = part("track");
  track.append(bar);
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.name = name;
  button.append(part("name", shown(name)), part("share", percent(probability)), track);
  button.addEventListener("click", () => ask(name));
  const row = document.createElement("li");
  row.append(button);
  return row;
}

function showRows(count) {
  const rows = [...element("classes").children];
  rows.forEach((row, index) => (row.hidden = index >= count));
  element("more").hidden = rows.length <= count;
  element("more").textContent = `Show all ${rows.length} classes`;
}

function showMap(name, picture, described) {
  element("map-figure").hidden = picture === null;
  if (picture !== null) element("map").src = picture;
  element("map").alt = `The part of the image that the network sees; bright is what speaks for ${shown(name)}`;
  element("map-says").textContent = `As the network sees it. What speaks for “${shown(name)}” is coloured, the more the brighter: ${described}.`;
  for (const button of element("classes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === name));
  }
}

for (const id of ["file", "camera"]) {
  element(id).addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
  else fail("The clipboard holds no image.");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // else the browser would open what is dropped
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  else fail("That was no file. Save the image first, then drop its file here.");
});
element("photo").addEventListener("error", () => (element("photo-figure").hidden = true)); // a TIFF, say
element("photo").addEventListener("load", ({ target }) => target.classList.toggle("pixels", target.naturalWidth < 97));
element("more").addEventListener("click", () => showRows(Infinity));
element("curl").textContent = `curl -F image=@photo.jpg '${location.origin}/predict?top=3'`;
