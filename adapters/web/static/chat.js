// One conversation: its turns, the growing answer, and a scroll position that follows only who is at the end.

import { copy, dress, icon, iconButton, markdown } from "./code.js";
import { full, t } from "./text.js";

const scroll = document.getElementById("scroll");
const list = document.getElementById("turns");
const latest = document.getElementById("latest");
const more = document.getElementById("more");
const empty = document.getElementById("empty");
const announce = document.getElementById("announce");

const make = (tag, className, text) => Object.assign(document.createElement(tag), { className, textContent: text ?? "" });
const OPEN = new Set(["unsent", "waiting", "running"]);

/** One question and its answer. */
class Turn {
  constructor({ message, question, at, state, html, failure }) {
    this.message = message;
    this.question = question;
    this.root = make("article", /^[/／]/.test(question) ? "turn command" : "turn");
    const asked = make("div", "question");
    this.bubble = make("div", "bubble", question);
    this.bubble.dir = "auto";
    asked.append(make("h2", "unseen", t("you")), this.bubble);
    this.body = make("div", "md");
    this.tail = make("div", "tail");
    this.body.append(this.tail);
    this.sign = make("p", "sign");
    this.fault = make("div", "fault");
    this.fault.hidden = true;
    this.actions = make("div", "actions");
    this.actions.append(iconButton("copy_answer", "icon copy-answer", false, "copy"), iconButton("anew", "icon retry", false, "retry"));
    this.time = make("time", "");
    this.actions.append(this.time);
    const answer = make("div", "answer");
    answer.append(this.body, this.sign, this.fault, this.actions);
    this.root.append(asked, answer);
    this.when(at);
    this.from = 0;
    if (html) this.show(0, html, "", true);
    this.become(state, failure);
  }

  when(at) {
    this.at = at;
    this.time.dateTime = new Date(at).toISOString();
    this.time.textContent = this.bubble.title = full(at);
  }

  get open() { return OPEN.has(this.state); }

  get blank() { return this.body.childNodes.length === 1 && !this.tail.hasChildNodes(); }

  /** Append what is settled, replace the tail. `from` 0 begins anew. */
  show(from, settled, tail, complete) {
    if (from === 0) this.body.replaceChildren(this.tail);
    if (settled) this.tail.before(dress(parse(settled), true));
    this.tail.replaceChildren(dress(parse(tail), complete));
    let end = this.tail.lastElementChild; // where the next word will stand
    while (end?.matches("ul, ol, li, blockquote") && end.lastElementChild?.matches("p, ul, ol, li, blockquote")) end = end.lastElementChild;
    if (end?.matches("p, li")) end.classList.add("caret");
  }

  become(state, failure = this.failure, reason = this.reason) {
    if (state === "failed" && failure?.code === "superseded") state = "stopped"; // the person's own doing
    this.state = state;
    this.failure = failure;
    this.reason = reason;
    this.root.dataset.state = state;
    this.root.toggleAttribute("aria-busy", state === "running");
    const signs = { unsent: "unsent", waiting: "queued", expired: "expired", stopped: "stopped" };
    const sign = state === "waiting" && this.first ? "thinking" : state === "running" && this.blank ? "thinking" : signs[state];
    this.sign.hidden = !sign;
    this.sign.className = sign === "thinking" ? "sign dots" : "sign";
    this.sign.textContent = sign ? t(sign) : "";
    this.fault.hidden = state !== "failed" && state !== "rejected";
    if (!this.fault.hidden) this.fail(failure, reason);
    else this.failure = this.reason = undefined;
    this.actions.hidden = this.open || (this.blank && state !== "stopped");
    this.root.classList.toggle("blank", this.blank);
  }

  fail(failure, reason) {
    const text = make("p", "", failure?.text || t(reason || "failed"));
    text.dir = "auto";
    this.fault.replaceChildren(icon("warn"), text);
    const foot = make("div", "foot");
    if (failure?.id && !text.textContent.includes(failure.id)) foot.append(make("code", "", t("reference", { id: failure.id })));
    if (this.state === "failed") foot.append(iconButton("again", "retry", true, "retry"));
    if (foot.hasChildNodes()) this.fault.append(foot);
  }
}

/** HTML of the server's renderer as nodes that nothing has run in. */
function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

export class Chat {
  /** `on` has retry(), changed(), refresh(), more(). */
  constructor(on) {
    this.on = on;
    this.id = null;
    this.turns = new Map();
    this.stuck = true;
    scroll.addEventListener("scroll", () => this.look(), { passive: true });
    new ResizeObserver(() => this.follow()).observe(list);
    new ResizeObserver(() => this.follow()).observe(scroll);
    latest.onclick = () => { this.stick(); document.getElementById("prompt").focus(); };
    more.onclick = () => on.more();
    list.addEventListener("click", ({ target }) => this.click(target.closest("button")));
  }

  click(button) {
    if (!button) return;
    if (button.matches(".copy-code")) copy(button.closest(".code").querySelector("code").textContent, button);
    else if (button.matches(".copy-answer")) copy(markdown(button.closest(".answer").querySelector(".md")), button);
    else if (button.matches(".retry")) this.on.retry();
  }

  // Scrolling

  look() {
    const rest = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
    // Content that grew between two frames is not the person's doing: only moving up lets go.
    if (rest < 60) this.stuck = true;
    else if (scroll.scrollTop < this.top - 2) this.stuck = false;
    this.top = scroll.scrollTop;
    latest.hidden = this.stuck || rest < 200;
  }

  follow() {
    if (this.stuck) { scroll.scrollTop = scroll.scrollHeight; this.top = scroll.scrollTop; }
    this.look();
  }

  stick() {
    this.stuck = true;
    this.follow();
  }

  // Turns

  /** Show another conversation, empty until the server sends it. */
  show(id) {
    this.id = id;
    this.turns.clear();
    list.replaceChildren();
    more.hidden = true;
    this.stuck = true;
    this.changed();
  }

  /** What the server has of it; `outbox`: what it may not have heard yet. Elements of turns that did not change stay. */
  load(turns, hasMore, outbox) {
    const rest = scroll.scrollHeight - scroll.scrollTop;
    const before = this.turns;
    this.turns = new Map();
    for (const data of turns) {
      const old = before.get(data.message);
      const same = old && old.question === data.question && (data.state === old.state || (data.state === "running" && old.open));
      const turn = same ? old : new Turn(data);
      if (same && data.state === "running") turn.state = "running";
      this.turns.set(data.message, turn);
    }
    for (const { type, client_id } of outbox) {
      if (type === "retry" && !this.turns.has(client_id)) this.again(client_id);
    }
    const unsent = new Set(outbox.filter((item) => item.type === "send").map((item) => item.client_id));
    for (const [message, turn] of before) {
      if (!this.turns.has(message) && (turn.state === "rejected" || unsent.has(message))) this.turns.set(message, turn);
    }
    list.replaceChildren(...[...this.turns.values()].map((turn) => turn.root));
    more.hidden = !hasMore;
    this.changed();
    if (this.stuck) this.follow();
    else scroll.scrollTop = scroll.scrollHeight - rest;
  }

  add(data) {
    const turn = new Turn({ html: "", failure: null, ...data });
    this.turns.set(data.message, turn);
    list.append(turn.root);
    this.changed();
    return turn;
  }

  /** The last question is asked again under another id. */
  again(message) {
    const turn = this.last;
    if (!turn) return;
    this.turns.delete(turn.message);
    turn.message = message;
    turn.show(0, "", "", false);
    this.turns.set(message, turn);
    turn.become("waiting");
    this.changed();
  }

  get last() { return [...this.turns.values()].at(-1); }

  get busy() { return [...this.turns.values()].some((turn) => turn.state === "waiting" || turn.state === "running"); }

  state(message, state, failure, reason) {
    const turn = this.turns.get(message);
    if (!turn) return;
    turn.become(state, failure, reason);
    this.changed();
  }

  /** A piece of an answer. */
  answer({ message, from, settled, tail, state, failure }) {
    const turn = this.turns.get(message);
    if (!turn) { this.on.refresh(); return; }
    const ended = state !== "running";
    if (!(from === 0 && !settled && !tail && state === "failed")) turn.show(from, settled, tail, ended);
    if (turn.state === "rejected") turn.become("rejected", failure);
    else if (!ended || turn.state !== "complete" || state !== "done") {
      turn.become({ done: "complete" }[state] ?? state, failure);
      if (ended) this.merged(message);
      if (ended) announce.textContent = (failure?.text || turn.body.textContent).slice(0, 4000);
    }
    this.changed();
  }

  /** Earlier questions without an answer of their own were answered together with this one. */
  merged(message) {
    for (const [id, turn] of this.turns) {
      if (id === message) break;
      if (turn.state === "running" && turn.blank) turn.become("complete");
    }
  }

  drop(states) {
    for (const [message, turn] of this.turns) {
      if (states.includes(turn.state)) { this.turns.delete(message); turn.root.remove(); }
    }
  }

  changed() {
    const waiting = [...this.turns.values()].filter((turn) => turn.state === "waiting");
    const running = [...this.turns.values()].some((turn) => turn.state === "running");
    for (const turn of waiting) {
      const first = !running && turn === waiting[0];
      if (turn.first !== first) { turn.first = first; turn.become("waiting"); }
    }
    const shown = this.last;
    for (const turn of this.turns.values()) turn.root.classList.toggle("last", turn === shown);
    empty.hidden = this.turns.size > 0 || this.loading;
    this.on.changed();
  }
}
