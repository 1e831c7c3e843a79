// Asks the node every second while somebody looks, and shows what it says. Text goes in as text: nothing here makes HTML of data.
"use strict";

const EVERY_MS = 1000;
const LIMIT_MS = 5000;
// So old may figures be before the page says that they are.
const OLD_MS = 15000;
// So long without an answer counts as one that is late, and as one that is away.
const LATE_MS = 5000;
const AWAY_MS = 8000;

const ROLES = { leader: "leader", server: "server", member: "member" };
const STATES = { ready: "ready", starting: "starting", silent: "not answering", gone: "left" };

const $ = (id) => document.getElementById(id);

// ---- Making and changing elements -------------------------------------------------------------------------------------------

/** An element with attributes and children; a child that is no element becomes text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Changes a text only where it differs, so that nobody's selection or reader is disturbed by what stays. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, key, value) {
  if (element.dataset[key] !== String(value)) element.dataset[key] = value;
}

/** Text in which `backticks` become code. */
function prose(element, text) {
  if (element.dataset.prose === text) return;
  element.dataset.prose = text;
  element.replaceChildren(...text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part)));
}

/** Makes the children of `list` those of `items`, by key; what stays is changed in place and keeps focus and openness. */
function sync(list, items, keyOf, create, update) {
  const known = new Map([...list.children].map((child) => [child.key, child]));
  let next = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    known.delete(key);
    if (!child) {
      child = create(item);
      child.key = key;
    }
    update(child, item);
    if (child === next) next = next.nextElementSibling;
    else list.insertBefore(child, next);
  }
  for (const child of known.values()) child.remove();
}

// ---- Figures in words -------------------------------------------------------------------------------------------------------

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) {
    count /= 1000;
    at += 1;
  }
  return `${count < 10 && at > 2 ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

function lasting(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** What to call a node from where we are; none where nothing says how it could be reached. */
function hostOf(node, view) {
  const here = location.hostname;
  if (node.name === view.served_by) return here;
  if (/\.local\.?$/.test(here)) return `${node.name}.local`;
  if (here === "master" || view.nodes.some((one) => one.name === here)) return node.name;
  const network = (address) => address.split(".").slice(0, 3).join(".");
  return /^[\d.]+$/.test(here) && network(here) === network(node.address) ? node.address : null;
}

/** The address of another node's page from where we are. */
function elsewhere(node, view) {
  const host = hostOf(node, view);
  return host && `http://${host}${location.port ? `:${location.port}` : ""}/`;
}

/** Ports of something as links to `host`; as text where nobody can say what that is called here. */
function showPorts(list, ports, host, what) {
  const create = (port) =>
    host ? make("a", { href: `http://${host}:${port}/`, "aria-label": `${what} at port ${port}` }, `:${port}`) : make("span", {}, `:${port}`);
  sync(list, ports, (port) => `${host}:${port}`, create, () => {});
}

// ---- Nodes ------------------------------------------------------------------------------------------------------------------

function meter(label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 6");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  bar.setAttribute("height", "6");
  svg.append(bar);
  const value = make("span", { class: "value" });
  const element = make("div", { class: "meter" }, make("dt", {}, make("span", {}, label), value), make("dd", {}, svg));
  return { element, bar, value };
}

/** `share` of 1; from `warn` and `bad` on it changes its colour. */
function measure({ element, bar, value }, text, share, warn, bad) {
  element.hidden = text === null;
  if (text === null) return;
  say(value, text);
  bar.setAttribute("width", String(Math.round(Math.min(Math.max(share, 0.01), 1) * 1000) / 10));
  mark(element, "level", share >= bad ? "bad" : share >= warn ? "warn" : "good");
}

function createNode() {
  const item = make("li");
  const p = {
    name: make("h3"),
    role: make("span", { class: "role" }),
    state: make("span", { class: "state" }),
    stateText: make("span"),
    address: make("span", { class: "address" }),
    board: make("span"),
    memory: meter("Memory"),
    card: meter("Card"),
    load: meter("Load"),
    heat: meter("Temperature"),
    engine: part("Engine"),
    consul: part("Consul"),
    swarm: part("Swarm"),
    containers: make("ul", { role: "list" }),
    containersTitle: make("summary"),
    checks: make("ul", { role: "list" }),
    checksTitle: make("summary"),
  };
  p.state.append(make("span", { class: "dot", "aria-hidden": "true" }), p.stateText);
  p.meters = make("dl", { class: "meters" }, p.memory.element, p.card.element, p.load.element, p.heat.element);
  p.containersBox = make("details", {}, p.containersTitle, p.containers);
  p.checksBox = make("details", {}, p.checksTitle, p.checks);
  p.parts = make("dl", { class: "parts" }, ...p.engine, ...p.consul, ...p.swarm);
  const top = [make("header", {}, p.name, p.role, p.state), make("p", { class: "where" }, p.address, p.board)];
  p.article = make("article", { class: "node" }, ...top, p.meters, p.parts, p.containersBox, p.checksBox);
  item.append(p.article);
  item.parts = p;
  return item;
}

function updateNode(item, node, view) {
  const p = item.parts;
  p.name.id = `node-${node.id || node.name}`;
  p.article.setAttribute("aria-labelledby", p.name.id);
  mark(p.article, "state", node.state);
  nameOf(p.name, node, view);
  say(p.role, ROLES[node.role] ?? node.role);
  mark(p.role, "role", node.role);
  say(p.stateText, STATES[node.state] ?? node.state);
  mark(p.state, "state", node.state);
  const away = node.state === "silent" || node.state === "gone";
  const heard = away && node.heard_ms_ago !== null ? `heard ${lasting(node.heard_ms_ago / 1000)} ago` : null;
  const up = !away && node.uptime_s !== null ? `up ${lasting(node.uptime_s)}` : null;
  say(p.address, [node.address, up, heard].filter(Boolean).join(" · "));
  say(p.board, node.board || node.arch);

  const { memory, card, load, temperature_c: heat } = node;
  const used = memory && 1 - memory.available / memory.total;
  measure(p.memory, memory && `${bytes(memory.available)} of ${bytes(memory.total)} free`, used, 0.85, 0.95);
  const full = card && 1 - card.free / card.total;
  measure(p.card, card && `${bytes(card.free)} of ${bytes(card.total)} free`, full, 0.85, 0.95);
  const on = node.processors ? ` on ${count(node.processors, "processor")}` : "";
  measure(p.load, load === null ? null : `${load.toFixed(1)}${on}`, load / (node.processors || 1), 1.2, 4);
  measure(p.heat, heat === null ? null : `${heat.toFixed(0)} °C`, heat / 100, 0.7, 0.8);
  p.meters.hidden = away || [memory, card, load, heat].every((one) => one === null);

  const { engine, consul, swarm } = node;
  // What others say of a node that is away is so; what it said itself was so.
  const own = away ? [] : [engine.state, engine.version && `Docker ${engine.version}`];
  tellPart(p.engine, own, engine.state === "down");
  const role = consul.leader ? "leads the servers" : consul.server ? "server" : "agent";
  const gossip = consul.state === "unknown" ? [] : [consul.state, role];
  tellPart(p.consul, gossip, ["failed", "left"].includes(consul.state));
  const place = swarm.leader ? "leads the managers" : swarm.role;
  tellPart(p.swarm, [swarm.state, place], ["down", "disconnected"].includes(swarm.state));
  p.parts.hidden = [p.engine, p.consul, p.swarm].every(([term]) => term.hidden);

  const running = engine.containers.filter((one) => one.state === "running").length;
  const all = engine.containers.length;
  const how = away ? ", as last heard" : running === all ? "" : `, ${running} running`;
  say(p.containersTitle, `${count(all, "container")}${how}`);
  p.containersBox.hidden = all === 0;
  // What ran on a node that is away answers nobody.
  const host = away ? null : hostOf(node, view);
  sync(p.containers, engine.containers, (one) => one.name, createContainer, (item, one) => updateContainer(item, one, host));
  const failed = node.checks.filter((check) => !check.pass).length;
  say(p.checksTitle, failed ? `${count(node.checks.length, "check")}, ${failed} failed` : `${count(node.checks.length, "check")} passed`);
  p.checksBox.hidden = away || node.checks.length === 0;
  sync(p.checks, node.checks, (check) => check.name, () => make("li", { class: "check" }), updateCheck);
}

/** The node's name; a link where its own page can be reached. */
function nameOf(element, node, view) {
  const target = node.name === view.served_by ? null : elsewhere(node, view);
  const key = `${node.name} ${target}`;
  if (element.key === key) return;
  element.key = key;
  element.replaceChildren(target ? make("a", { href: target }, node.name) : node.name);
}

/** A term and what is said of it. */
function part(term) {
  return [make("dt", {}, term), make("dd")];
}

function tellPart([term, element], words, bad) {
  const text = words.filter(Boolean).join(", ");
  term.hidden = element.hidden = !text;
  say(element, text);
  mark(element, "level", bad ? "bad" : "good");
}

function createContainer() {
  const item = make("li", { class: "container" });
  item.name = make("span");
  item.image = make("span", { class: "of" });
  item.status = make("span", { class: "of" });
  item.ports = make("span", { class: "of ports" });
  item.append(make("span", { class: "dot", "aria-hidden": "true" }), item.name, item.image, item.status, item.ports);
  return item;
}

function updateContainer(item, container, host) {
  mark(item, "state", container.state);
  say(item.name, container.system ? `${container.name}, part of the cluster` : container.name);
  say(item.image, container.image);
  say(item.status, container.status || container.state);
  showPorts(item.ports, container.ports, host, container.name);
}

function updateCheck(item, check) {
  mark(item, "pass", check.pass);
  prose(item, `${check.pass ? "" : "Failed: "}${check.line}`);
}

// ---- Services and problems --------------------------------------------------------------------------------------------------

function createService() {
  const item = make("li", { class: "service" });
  item.name = make("h3");
  item.image = make("span", { class: "image mono quiet" });
  item.count = make("span", { class: "count" });
  item.ports = make("span", { class: "ports" });
  item.append(item.name, item.image, item.ports, item.count);
  return item;
}

function updateService(item, service) {
  say(item.name, service.name);
  say(item.image, service.image);
  say(item.count, `${service.running} of ${service.wanted} run`);
  mark(item, "short", service.running < service.wanted);
  // Every node answers at a published port.
  showPorts(item.ports, service.ports, location.hostname, service.name);
}

/** What stays of a problem while its figures change. */
function problemKey(problem) {
  return `${problem.node ?? ""} ${problem.text.replace(/\d+/g, "0")}`;
}

function createProblem() {
  const item = make("li", { class: "problem" });
  item.text = make("p", { class: "text" });
  item.fix = make("p", { class: "fix" });
  item.append(item.text, item.fix);
  return item;
}

/** One sentence that names the node. */
function sentence(problem) {
  return problem.node && !problem.text.includes(problem.node) ? `${problem.node}: ${problem.text}` : problem.text;
}

function updateProblem(item, problem) {
  prose(item.text, sentence(problem));
  prose(item.fix, problem.fix);
  item.fix.hidden = !problem.fix;
}

// ---- The whole --------------------------------------------------------------------------------------------------------------

let last = null;
let heardAt = null;

function show(view) {
  say($("cluster"), view.cluster || "Cluster");
  say($("about"), view.id ? `Cluster ${view.id}` : "Cluster");
  say($("served-by"), view.served_by || "this node");

  const ready = view.nodes.filter((node) => node.state === "ready").length;
  const away = view.nodes.filter((node) => node.state === "silent" || node.state === "gone").length;
  const total = view.nodes.length;
  const headline = $("headline");
  if (total === 0) say(headline, "The cluster is coming up …");
  else if (ready === total) say(headline, total === 1 ? "The only node is ready." : `All ${total} nodes are ready.`);
  else say(headline, `${ready} of ${count(total, "node")} ${ready === 1 ? "is" : "are"} ready.`);
  const state = total === 0 ? "starting" : away || view.leader === null ? "bad" : ready < total || view.problems.length ? "warn" : "good";
  mark(headline, "state", state);
  const containers = view.nodes.reduce((sum, node) => sum + node.engine.containers.filter((one) => one.state === "running" && !one.system).length, 0);
  const facts = [
    view.leader ? `${view.leader} leads` : total ? "nobody leads" : "this page fills itself",
    total && count(containers, "container"),
    total && count(view.services.length, "service"),
    total && (view.problems.length ? count(view.problems.length, "problem") : "no problem"),
  ];
  say($("figures"), facts.filter(Boolean).join(" · "));
  document.title = `${view.cluster || "Cluster"}: ${view.problems.length ? count(view.problems.length, "problem") : headline.textContent}`;

  $("wrong").hidden = view.problems.length === 0;
  sync($("problems"), view.problems, problemKey, createProblem, updateProblem);
  $("members").hidden = total === 0;
  sync($("nodes"), view.nodes, (node) => node.id || node.name, createNode, (item, node) => updateNode(item, node, view));
  $("work").hidden = total === 0;
  $("no-services").hidden = view.services.length > 0;
  sync($("services"), view.services, (service) => service.name, createService, updateService);
}

/** Tells those who listen what changed, and not what stayed. */
function tell(before, view) {
  if (!before) return;
  const then = new Set(before.problems.map(problemKey));
  const now = new Set(view.problems.map(problemKey));
  const changes = view.problems.filter((problem) => !then.has(problemKey(problem))).map(sentence);
  for (const node of view.nodes) {
    const old = before.nodes.find((one) => one.name === node.name);
    if (!old) changes.push(`${node.name} is new.`);
    else if (old.state !== node.state && node.state === "ready") changes.push(`${node.name} is ready.`);
  }
  if (view.leader && before.leader !== view.leader) changes.push(`${view.leader} leads.`);
  if (then.size && !now.size) changes.push("No problem is left.");
  if (changes.length) say($("news"), changes.join(" ").replaceAll("`", ""));
}

/** How fresh it all is, once a second. */
function age() {
  const silence = heardAt === null ? performance.now() : performance.now() - heardAt;
  const old = last ? last.age_ms + silence : 0;
  const isAway = silence >= AWAY_MS;
  const isOld = last !== null && !isAway && last.age_ms >= OLD_MS;
  const late = silence >= LATE_MS || isOld;
  mark($("pulse"), "state", heardAt === null && !late ? "waiting" : late ? "late" : "live");
  say($("pulse-text"), heardAt === null ? (late ? "no answer" : "asking") : late ? `${lasting(old / 1000)} old` : "live");
  document.body.classList.toggle("stale", isAway || isOld);

  // Said once: the seconds stand in the corner.
  const who = last?.served_by || "This node";
  const banner = isAway ? `away ${who}` : isOld ? `old ${who}` : "";
  const element = $("away");
  if (element.dataset.said === banner || (!banner && !element.dataset.said)) return;
  element.dataset.said = banner;
  if (isAway) {
    const others = (last?.nodes ?? []).filter((node) => node.name !== last.served_by && node.state === "ready");
    const links = others.map((node) => [elsewhere(node, last), node.name]);
    const texts = links.flatMap(([target, name], at) => [at ? ", " : " Ask another node: ", target ? make("a", { href: target }, name) : name]);
    const shown = last ? " What you see is from before." : "";
    element.replaceChildren(`${who} does not answer.${shown}`, ...texts, others.length ? "." : "");
  } else if (isOld) {
    const command = make("code", {}, "systemctl status hcl-cluster");
    element.replaceChildren(`${who} answers, but its figures are old: `, command, " there says why.");
  } else {
    element.replaceChildren();
  }
}

// ---- Asking -----------------------------------------------------------------------------------------------------------------

let timer = 0;
let asking = false;

async function ask() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  const over = new AbortController();
  const limit = setTimeout(() => over.abort(), LIMIT_MS);
  try {
    const answer = await fetch("/api/cluster", { cache: "no-store", signal: over.signal });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const view = await answer.json();
    heardAt = performance.now();
    const before = last;
    last = view;
    show(view);
    tell(before, view);
  } catch (error) {
    // The corner and the banner say it; a mistake of ours must not hide there.
    if (error instanceof TypeError && !/fetch|network|load/i.test(error.message)) console.error(error);
  } finally {
    clearTimeout(limit);
    asking = false;
    age();
    timer = setTimeout(ask, EVERY_MS);
  }
}

// A tab that comes back shows nothing old for long.
document.addEventListener("visibilitychange", ask);
addEventListener("online", ask);
setInterval(age, 1000);
ask();
