// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
const tones = ["up", "held", "off", "absent", "bad", "unknown"];
const board = document.getElementById("live");
const canWrite = typeof Terminal !== "undefined";
const terminals = new Map();
let streamName = "";
let reportedProblem = "";

// All texts of guests, hypervisors and the topology become text, never HTML.
function show(text, isProblem) {
  board.textContent = text;
  board.classList.toggle("problem", isProblem);
}

function setTone(element, prefix, tone) {
  tones.forEach((one) => element.classList.remove(prefix + one));
  element.classList.add(prefix + tone);
}

function showNode(card, state) {
  setTone(card, "vl-", state.tone);
  card.setAttribute("aria-label", state.label);
  card.querySelector("title").textContent = state.tooltip;
  card.querySelectorAll(".vl-state").forEach((text) => { text.textContent = state.state; });
  const name = card.dataset.node;
  const shown = all(".panel article").filter((article) => article.dataset.of === name)
    .map((article) => article.querySelector(".state"));
  nodeRows.filter((row) => row.dataset.row === name).forEach((row) => {
    shown.push(row.querySelector("[class*='tone-']"));
  });
  shown.filter(Boolean).forEach((element) => {
    setTone(element, "tone-", state.tone);
    element.textContent = state.state;
  });
}

function showLink(number, state) {
  const numbered = (name) => all("[data-" + name + "='" + number + "']");
  numbered("link").filter((element) => element.classList.contains("vl-link")).forEach((link) => {
    link.classList.toggle("vl-down", state.down);
    link.querySelector("title").textContent = state.tooltip;
  });
  numbered("labels").forEach((group) => {
    group.querySelectorAll(".vl-word-down").forEach((word) => {
      word.style.visibility = state.down ? "" : "hidden";
    });
  });
  numbered("down").forEach((element) => { element.hidden = !state.down; });
  numbered("traffic").forEach((element) => { element.textContent = state.traffic.join("\n"); });
  numbered("carrier").forEach((button) => {
    button.dataset.to = state.down ? "up" : "down";
    button.textContent = state.down ? "Restore" : "Cut";
  });
  linkRows.filter((row) => row.dataset.rowLink === number).forEach((row) => {
    const cell = row.querySelector("[class*='tone-']");
    setTone(cell, "tone-", state.down ? "bad" : "up");
    cell.textContent = state.down ? "down" : "up";
  });
}

function showState(state) {
  document.getElementById("summary").textContent = state.summary;
  nodes.forEach((card) => {
    const node = state.nodes[card.dataset.node];
    if (node) { showNode(card, node); }
  });
  Object.keys(state.links).forEach((number) => showLink(number, state.links[number]));
  const kind = canWrite ? "Live" : "Live, read-only";
  const problems = state.errors.map((error) => "No answer from " + error);
  show([kind + ": " + new Date().toLocaleTimeString(), reportedProblem, ...problems]
    .filter(Boolean).join("\n"), problems.length > 0 || reportedProblem !== "");
  if (state.facts !== document.body.dataset.facts) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "The lab has changed: reload";
    button.addEventListener("click", () => location.reload());
    board.append(" ", button);
  }
}

async function ask(route, parameters) {
  const response = await fetch(route, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ stream: streamName, ...parameters }),
  });
  const answer = await response.json();
  if (!response.ok) { throw new Error(answer.error); }
  return answer;
}

function report(error) {
  reportedProblem = error.message;
  show(reportedProblem, true);
}

function endConsole(name) {
  const console = terminals.get(name);
  if (!console) { return; }
  terminals.delete(name);
  console.terminal.write("\r\n[the console has ended]\r\n");
  console.isEnded = true;
}

// Send what is typed in order, one request at a time.
async function typeAll(console) {
  if (console.isTyping) { return; }
  console.isTyping = true;
  try {
    while (console.typed !== "" && !console.isEnded) {
      const text = console.typed.slice(0, 4096);
      console.typed = console.typed.slice(text.length);
      await ask("input", { console: console.name, text: text });
    }
  } catch (error) {
    report(error);
  }
  console.isTyping = false;
}

async function openConsole(node) {
  const name = (await ask("console", { node: node })).console;
  const box = document.createElement("div");
  box.className = "console";
  const head = document.createElement("header");
  const title = document.createElement("h2");
  title.textContent = node;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Close";
  head.append(title, button);
  const screen = document.createElement("div");
  box.append(head, screen);
  document.getElementById("consoles").append(box);
  // A guest must not make links that a click opens.
  const terminal = new Terminal({
    rows: 24, cols: 80, scrollback: 5000, cursorBlink: true, linkHandler: { activate: () => {} },
  });
  const console = { name, terminal, typed: "", isTyping: false, isEnded: false };
  terminals.set(name, console);
  waiting.filter(([of]) => of === name).forEach(([, data]) => terminal.write(data));
  terminal.open(screen);
  terminal.onData((text) => { console.typed += text; typeAll(console); });
  button.addEventListener("click", () => {
    if (!console.isEnded) { ask("close", { console: name }).catch(() => {}); }
    terminals.delete(name);
    terminal.dispose();
    box.remove();
  });
  terminal.focus();
}

// Output that arrives before the answer with the name of its console.
let waiting = [];

function showOutput(event) {
  const output = JSON.parse(event.data);
  const data = Uint8Array.from(atob(output.data), (letter) => letter.charCodeAt(0));
  const console = terminals.get(output.console);
  if (console) {
    console.terminal.write(data);
  } else {
    waiting = [...waiting.slice(-63), [output.console, data]];
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) { return; }
  reportedProblem = "";
  if (button.dataset.console) {
    openConsole(button.dataset.console).catch(report);
  } else if (button.dataset.carrier) {
    button.disabled = true;
    ask("carrier", { link: Number(button.dataset.carrier), down: button.dataset.to === "down" })
      .catch(report).finally(() => { button.disabled = false; });
  }
});

const events = new EventSource("events");
events.addEventListener("stream", (event) => { streamName = JSON.parse(event.data); });
events.addEventListener("state", (event) => showState(JSON.parse(event.data)));
events.addEventListener("output", showOutput);
events.addEventListener("end", (event) => endConsole(JSON.parse(event.data)));
events.addEventListener("error", () => {
  Array.from(terminals.keys()).forEach(endConsole);
  show("No answer: the playbook has ended. The picture shows the latest known state.", true);
});
