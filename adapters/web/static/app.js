// Puts the parts together: which conversation is open, what the server says, what the person does.

import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { Link, post } from "./link.js";
import { List } from "./list.js";
import { outbox, randomId, store } from "./store.js";
import { EXAMPLES, label, t, tag, toggleLanguage } from "./text.js";

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const VERSION = document.querySelector("meta[name=version]").content;
const PAGE = 40;

let open = randomId(); // the conversation; a new one is known to the server with its first question
let turns = PAGE;
let notice = "";
let stopping = false;
let looked = 0; // when the conversation was last asked for

const mac = /Mac|iPhone|iPad/.test(navigator.platform);
const narrow = matchMedia("(max-width: 760px)");

const chat = new Chat({
  retry,
  more() { turns = Math.min(turns * 4, 1000); ask(); },
  refresh() { if (Date.now() - looked > 1000) ask(); },
  changed() { composer?.fit(chat.busy); heading(); watch(); },
});
const composer = new Composer({ send, stop });
const list = new List({ open: go, remove });
const link = new Link({ message: hear, state: shown });

// The server's words

function hear(event) {
  const here = event.conversation === open;
  switch (event.type) {
    case "ready":
      notice = event.notice;
      notify();
      $("leave").hidden = !event.keys;
      models(event.models);
      if (event.version !== VERSION) update();
      for (const item of outbox.all()) link.send(item);
      ask();
      break;
    case "conversations":
      list.load(event.conversations);
      list.select(open);
      heading();
      break;
    case "conversation":
      if (!here) break;
      chat.loading = false;
      chat.load(event.turns, event.more, outbox.all().filter((item) => item.conversation === open));
      pending();
      break;
    case "question":
      if (!here || chat.turns.has(event.message)) break;
      if (event.retry) chat.again(event.message);
      else chat.add({ message: event.message, question: event.text, at: event.at, state: "waiting" });
      break;
    case "answer":
      if (!here) break;
      chat.answer(event);
      if (stopping && event.state !== "running") { stopping = false; ask(); } // it is said there that it was stopped
      break;
    case "accepted":
      outbox.take(event.client_id);
      if (chat.turns.get(event.client_id)?.state === "unsent") chat.state(event.client_id, "waiting");
      break;
    case "rejected":
      rejected(event);
      break;
    case "deleted":
      store.remove(`draft:${event.conversation}`);
      outbox.drop(event.conversation);
      if (here) begin();
      break;
    case "error":
      composer.say(t(event.code === "storage" ? "error_storage" : "error_other"));
      break;
  }
}

function rejected({ client_id, reason }) {
  const item = outbox.take(client_id);
  const text = t(`not_${reason}`);
  const turn = chat.turns.get(client_id);
  if (turn) chat.state(client_id, item?.type === "retry" ? "failed" : "rejected", turn.failure, `not_${reason}`);
  if (item?.type !== "send") return;
  if (item.conversation === open) { composer.restore(item.text); if (!turn) composer.say(text); }
  else store.set(`draft:${item.conversation}`, item.text);
}

function shown(now) {
  $("app").hidden = now === "login";
  $("login").hidden = now !== "login";
  if (now === "login") setTimeout(() => $("key").focus());
  clearTimeout(shown.timer);
  const status = $("status");
  if (now === "online") { status.hidden = true; return; }
  shown.timer = setTimeout(() => {
    status.hidden = false;
    status.className = now === "tabs" ? "still" : "";
    status.lastElementChild.textContent = t({ connecting: "connecting", tabs: "tabs" }[now] ?? "reconnecting");
  }, now === "tabs" ? 0 : 600);
}

/** The server's line; `embedded:<model>` is a fact that the page says in its own words. */
function notify() {
  const [kind, model] = notice.split(/:(.*)/s);
  $("notice").textContent = kind === "embedded" ? t("embedded", { model }) : notice;
}

function update() {
  const status = $("status");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: t("reload") });
  button.onclick = () => location.reload();
  composer.say(t("update") + " ");
  $("trouble").append(button);
  status.hidden = true;
}

function models(names) {
  const select = $("model");
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.hidden = names.length < 2;
  heading();
}

// The open conversation

function ask() {
  looked = Date.now();
  link.send({ type: "open", conversation: open, turns });
}

function go(id) {
  aside();
  if (id === open) return;
  history.pushState(null, "", `#/c/${id}`);
  visit();
}

/** Show what the address names. */
function visit() {
  const id = /^#\/c\/([A-Za-z0-9_-]{8,64})$/.exec(location.hash)?.[1];
  if (!id) { begin(); return; }
  open = id;
  turns = PAGE;
  chat.loading = true;
  chat.show(id);
  pending();
  composer.open(id);
  list.select(id);
  ask();
  if (!narrow.matches) composer.focus();
}

/** A blank page. */
function begin() {
  aside();
  if (location.hash) history.pushState(null, "", location.pathname);
  open = randomId();
  turns = PAGE;
  chat.loading = false;
  chat.show(open);
  pending();
  composer.open("new");
  list.select(null);
  ask(); // from now on the server tells what happens there
  composer.focus();
}

/** Questions of this conversation that the server has not got yet. */
function pending() {
  for (const item of outbox.all()) {
    if (item.type !== "send" || item.conversation !== open || chat.turns.has(item.client_id)) continue;
    chat.add({ message: item.client_id, question: item.text, at: item.at ?? Date.now(), state: "unsent" });
  }
}

function heading() {
  const title = list.title(open) || [...chat.turns.values()][0]?.question?.slice(0, 80) || "";
  $("title").textContent = title;
  document.title = title ? `${title} · chatgpt-ms` : "chatgpt-ms";
  const model = list.items?.find((item) => item.id === open)?.model;
  const select = $("model");
  if (document.activeElement !== select) select.value = model || select.options[0]?.value;
}

// The person's doings

function send(text) {
  chat.drop(["rejected"]);
  const item = { type: "send", conversation: open, client_id: randomId(), text, language: tag() };
  outbox.add(item);
  composer.place = `draft:${open}`;
  if (!location.hash) history.replaceState(null, "", `#/c/${open}`);
  list.select(open);
  chat.add({ message: item.client_id, question: text, at: Date.now(), state: "unsent" });
  chat.stick();
  link.send(item);
}

function retry() {
  if (chat.busy) return;
  const item = { type: "retry", conversation: open, client_id: randomId(), language: tag() };
  outbox.add(item);
  chat.again(item.client_id);
  chat.stick();
  link.send(item);
}

function stop() {
  if (!chat.busy) return;
  stopping = link.send({ type: "stop", conversation: open });
  setTimeout(() => chat.busy && ask(), 1500);
}

/** Whatever may have been missed: while an answer is awaited and nothing comes, look. */
function watch() {
  if (!chat.busy || watch.timer) return;
  watch.timer = setTimeout(() => {
    watch.timer = 0;
    if (chat.busy && Date.now() - Math.max(link.heard ?? 0, looked) > 15000) ask();
    watch();
  }, 5000);
}

function remove(id) {
  if (link.send({ type: "delete", conversation: id })) list.load(list.items.filter((item) => item.id !== id));
}

/** Show or hide the list: true, false, or the other way round. */
function drawer(shown) {
  const before = narrow.matches ? root.dataset.drawer === "open" : root.dataset.side !== "hidden";
  const now = shown ?? !before;
  if (narrow.matches) root.dataset.drawer = now ? "open" : "closed";
  else { root.dataset.side = now ? "shown" : "hidden"; store.set("side", root.dataset.side); }
  $("side").inert = !now;
  document.querySelector("main").inert = narrow.matches && now;
  $("menu").setAttribute("aria-expanded", String(now));
  if (now !== before) $(now ? "fold" : "menu").focus();
}

/** How the list begins: hidden on a narrow screen, else as it was left. */
function sides() {
  delete root.dataset.drawer;
  drawer(narrow.matches ? false : root.dataset.side !== "hidden");
}

/** On a narrow screen the list is in the way once a choice was made. */
function aside() {
  if (narrow.matches) drawer(false);
}

function themes(next) {
  const order = ["auto", "light", "dark"];
  let now = root.dataset.theme ?? "auto";
  if (next) {
    now = order[(order.indexOf(now) + 1) % 3];
    if (now === "auto") { delete root.dataset.theme; store.remove("theme"); } else { root.dataset.theme = now; store.set("theme", now); }
  }
  const button = $("theme");
  button.querySelector("use").setAttribute("href", `#i-${now}`);
  button.title = t(`theme_${now}`);
  button.setAttribute("aria-label", button.title);
}

function words() {
  label();
  themes(false);
  notify();
  $("language").title = t("language");
  $("new").querySelector("kbd").textContent = mac ? "⇧⌘O" : "Ctrl+Shift+O";
  $("examples").replaceChildren(...EXAMPLES.map((name) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: t(name) });
    button.onclick = () => { composer.write(t(name)); composer.focus(); };
    return button;
  }));
  list.show();
}

$("new").onclick = $("new2").onclick = begin;
$("menu").onclick = $("fold").onclick = () => drawer();
$("scrim").onclick = aside;
$("theme").onclick = () => themes(true);
$("language").onclick = () => { toggleLanguage(); words(); for (const turn of chat.turns.values()) turn.become(turn.state); };
$("skip").onclick = (event) => { event.preventDefault(); composer.focus(); };
$("leave").onclick = async () => {
  await post("/web/logout").catch(() => {});
  outbox.clear();
  location.replace("/");
};
$("model").onchange = ({ target }) => send(`/model ${target.value}`);
$("login").onsubmit = async (event) => {
  event.preventDefault();
  const refused = $("refused");
  refused.textContent = "";
  try {
    await post("/web/login", { key: $("key").value });
    $("key").value = "";
    link.connect();
  } catch (error) {
    refused.textContent = t({ 401: "bad_key", 429: "slow_key" }[error.status] ?? "no_server");
    $("key").select();
  }
};
addEventListener("popstate", visit);
addEventListener("hashchange", () => open !== /^#\/c\/(.+)$/.exec(location.hash)?.[1] && visit());
addEventListener("storage", (event) => event.key === "language" && location.reload());
narrow.addEventListener("change", sides);
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "o" && event.shiftKey && (mac ? event.metaKey : event.ctrlKey)) { event.preventDefault(); begin(); }
  if (event.key !== "Escape" || event.isComposing || document.querySelector("dialog[open]")) return;
  if (narrow.matches && root.dataset.drawer === "open") drawer(false);
  else stop();
});

words();
sides();
visit();
link.connect();
