// The field where a question is written. Its text is kept per conversation until the question is on its way.

import { store } from "./store.js";

const form = document.getElementById("composer");
const field = document.getElementById("prompt");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
const trouble = document.getElementById("trouble");

export class Composer {
  /** `on` has send(text), stop(). */
  constructor(on) {
    this.on = on;
    this.place = "draft:new";
    this.busy = false;
    form.onsubmit = (event) => { event.preventDefault(); this.submit(); };
    stop.onclick = () => { on.stop(); field.focus(); };
    field.oninput = () => { store.set(this.place, field.value); if (!field.value) store.remove(this.place); this.fit(); };
    field.onkeydown = (event) => {
      // 229: a key that an input method is still working on, in browsers that end composition before the key event
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.submit();
    };
    addEventListener("resize", () => this.fit());
    form.onclick = ({ target }) => target === form && field.focus();
  }

  submit() {
    const text = field.value.toWellFormed?.() ?? field.value;
    if (!text.trim()) return;
    this.write("");
    this.say("");
    this.on.send(text.trim());
  }

  /** Change to another conversation's draft. */
  open(name) {
    this.place = `draft:${name}`;
    field.value = store.get(this.place) ?? "";
    this.say("");
    this.fit();
  }

  /** Give back text that could not be sent, before what was written since. */
  restore(text) {
    if (!field.value.includes(text)) this.write(field.value.trim() ? `${text}\n\n${field.value}` : text);
  }

  write(text) {
    field.value = text;
    if (text) store.set(this.place, text);
    else store.remove(this.place);
    this.fit();
  }

  focus() {
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  say(text) {
    trouble.hidden = !text;
    trouble.textContent = text;
  }

  fit(busy = this.busy) {
    this.busy = busy;
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight, innerHeight * 0.4)}px`;
    const written = field.value.trim() !== "";
    stop.hidden = !busy || written;
    send.hidden = !stop.hidden;
    send.disabled = !written;
  }
}
