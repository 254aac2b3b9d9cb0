// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
document.documentElement.classList.add("js");
const all = (selector) => Array.from(document.querySelectorAll(selector));
const nodes = all(".vl-node");
const links = all(".vl-link");
const labels = new Map(all(".vl-labels").map((group) => [group.dataset.labels, group]));
const nodeRows = all("#nodes tbody tr");
const linkRows = all("#links tbody tr");
const endsOf = (link) => link.dataset.ends.split(" ");
const firstCard = document.querySelector(".vl-segment, .vl-node");
let chosen = "";

function toggle(link, style, isOn) {
  link.classList.toggle(style, isOn);
  const group = labels.get(link.dataset.link);
  if (group) { group.classList.toggle(style, isOn); }
}

function highlightLinks(name) {
  links.forEach((link) => {
    const isEnd = name !== "" && endsOf(link).includes(name);
    toggle(link, "vl-lit", isEnd);
    if (!isEnd) { return; }
    // Draw it above other links but below all labels, and its labels above those but below cards.
    const group = labels.get(link.dataset.link);
    if (group) { group.parentNode.insertBefore(group, firstCard); }
    link.parentNode.insertBefore(link, document.querySelector(".vl-labels") || firstCard);
  });
}

function choose(name) {
  chosen = nodes.some((node) => node.dataset.node === name) ? name : "";
  nodes.forEach((node) => node.classList.toggle("vl-chosen", node.dataset.node === chosen));
  all(".panel article").forEach((article) => {
    article.classList.toggle("chosen", article.dataset.of === chosen);
  });
  highlightLinks(chosen);
  nodes.filter((node) => node.dataset.node === chosen).forEach((node) => {
    node.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Set();
  nodeRows.forEach((row) => {
    const content = row.textContent.toLowerCase();
    if (words.every((word) => content.includes(word))) { found.add(row.dataset.row); }
  });
  nodeRows.forEach((row) => row.classList.toggle("vl-dim", !found.has(row.dataset.row)));
  nodes.forEach((node) => node.classList.toggle("vl-dim", !found.has(node.dataset.node)));
  const isDim = (link) => !endsOf(link).some((end) => found.has(end));
  links.forEach((link) => toggle(link, "vl-dim", isDim(link)));
  linkRows.forEach((row) => row.classList.toggle("vl-dim", isDim(row)));
}

async function copy(button) {
  const code = button.parentNode.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch (error) {
    // Browsers deny the clipboard to pages that are files.
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

const picture = document.querySelector(".scene svg");
const pictureWidth = Number(picture.getAttribute("width"));
const currentScale = () => picture.getBoundingClientRect().width / pictureWidth;

function zoom(factor) {
  const fit = factor === "fit";
  const scale = Math.min(4, Math.max(0.1, currentScale() * Number(factor)));
  picture.style.width = fit ? "" : scale * pictureWidth + "px";
  picture.style.maxWidth = fit ? "" : "none";
}

nodes.forEach((node) => {
  node.addEventListener("mouseenter", () => highlightLinks(node.dataset.node));
  node.addEventListener("mouseleave", () => highlightLinks(chosen));
});
links.forEach((link) => {
  link.addEventListener("mouseenter", () => toggle(link, "vl-lit", true));
  link.addEventListener("mouseleave", () => highlightLinks(chosen));
});
document.addEventListener("click", (event) => {
  const node = event.target.closest(".vl-node, [data-choose]");
  const button = event.target.closest("button");
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
document.getElementById("search").addEventListener("input", (event) => search(event.target.value));
addEventListener("hashchange", () => choose(location.hash.replace("#node-", "")));
// Show a large lab at a readable size instead of as a whole.
if (currentScale() < 0.75 && innerWidth > 900) { zoom(0.75 / currentScale()); }
choose(location.hash.replace("#node-", ""));
