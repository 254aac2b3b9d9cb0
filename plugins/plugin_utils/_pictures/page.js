// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
document.documentElement.classList.add("js");
const all = (words, within) => Array.from((within || document).querySelectorAll(words));
const nodes = all(".vl-node"), links = all(".vl-link"), rows = all("#nodes tbody tr"), linkRows = all("#links tbody tr");
const ends = (thing) => thing.dataset.ends.split(" ");
const above = document.querySelector(".vl-segment, .vl-node");
let chosen = "";

function light(name) {
  links.forEach((link) => {
    const lit = name !== "" && ends(link).includes(name);
    link.classList.toggle("vl-lit", lit);
    // Its words come above those of others, but below the nodes.
    if (lit) { link.parentNode.insertBefore(link, above); }
  });
}

function choose(name) {
  chosen = nodes.some((node) => node.dataset.node === name) ? name : "";
  nodes.forEach((node) => node.classList.toggle("vl-chosen", node.dataset.node === chosen));
  all(".panel article").forEach((article) => article.classList.toggle("chosen", article.dataset.of === chosen));
  light(chosen);
  nodes.filter((node) => node.dataset.node === chosen).forEach((node) => node.scrollIntoView({ block: "nearest", inline: "nearest" }));
}

function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fitting = new Set();
  rows.forEach((row) => {
    const about = row.textContent.toLowerCase();
    if (words.every((word) => about.includes(word))) { fitting.add(row.dataset.row); }
  });
  rows.forEach((row) => row.classList.toggle("vl-dim", !fitting.has(row.dataset.row)));
  nodes.forEach((node) => node.classList.toggle("vl-dim", !fitting.has(node.dataset.node)));
  links.concat(linkRows).forEach((link) => link.classList.toggle("vl-dim", !ends(link).some((end) => fitting.has(end))));
}

async function copy(button) {
  const code = button.parentNode.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch (refused) {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

const picture = document.querySelector(".scene svg"), natural = Number(picture.getAttribute("width"));
const shown = () => picture.getBoundingClientRect().width / natural;
let scale = 0;

function zoom(by) {
  scale = by === "fit" ? 0 : Math.min(4, Math.max(0.1, shown() * Number(by)));
  picture.style.width = scale ? scale * natural + "px" : "";
  picture.style.maxWidth = scale ? "none" : "";
}

nodes.forEach((node) => {
  node.addEventListener("mouseenter", () => light(node.dataset.node));
  node.addEventListener("mouseleave", () => light(chosen));
});
links.forEach((link) => {
  link.addEventListener("mouseenter", () => link.classList.add("vl-lit"));
  link.addEventListener("mouseleave", () => light(chosen));
});
document.addEventListener("click", (event) => {
  const node = event.target.closest(".vl-node, [data-choose]"), button = event.target.closest("button");
  if (node) {
    event.preventDefault();
    const name = node.dataset.node || node.dataset.choose;
    choose(name);
    history.replaceState(null, "", "#node-" + name);
  } else if (button && button.dataset.zoom) {
    zoom(button.dataset.zoom);
  } else if (button && button.classList.contains("copy")) {
    copy(button);
  }
});
document.getElementById("search").addEventListener("input", (event) => find(event.target.value));
addEventListener("hashchange", () => choose(location.hash.replace("#node-", "")));
// A large lab is shown so that it can be read, not as a whole.
if (shown() < 0.75 && innerWidth > 900) { zoom(0.75 / shown()); }
choose(location.hash.replace("#node-", ""));
