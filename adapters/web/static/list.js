// The conversations at the side: a list under headings of time, moved through with the arrow keys.

import { ago, full, period, t } from "./text.js";
import { iconButton } from "./code.js";

const list = document.getElementById("list");
const dialog = document.getElementById("confirm");

export class List {
  /** `on` has open(id), remove(id). */
  constructor(on) {
    this.on = on;
    this.items = [];
    this.current = null;
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("click", (event) => this.click(event));
    setInterval(() => this.show(), 60000);
  }

  load(items) { this.items = items; this.show(); }

  select(id) {
    this.current = id;
    for (const row of list.querySelectorAll(".row")) mark(row, row.dataset.id === id);
  }

  title(id) { return this.items.find((item) => item.id === id)?.title; }

  show() {
    const focused = document.activeElement?.closest?.("#list .row")?.dataset.id;
    const out = document.createDocumentFragment();
    let heading = "";
    for (const item of this.items) {
      const now = period(item.at);
      if (now !== heading) out.append(Object.assign(document.createElement("h2"), { textContent: t((heading = now)) }));
      const row = Object.assign(document.createElement("div"), { className: "row" });
      row.dataset.id = item.id;
      const link = Object.assign(document.createElement("a"), { href: `#/c/${item.id}`, title: `${item.title}\n${full(item.at)}` });
      const title = Object.assign(document.createElement("span"), { textContent: item.title });
      title.dir = "auto";
      link.append(title, Object.assign(document.createElement("time"), { textContent: ago(item.at), dateTime: new Date(item.at).toISOString() }));
      const remove = iconButton("delete", "icon remove", false, "trash");
      remove.setAttribute("aria-label", t("delete_one", { title: item.title }));
      row.append(link, remove);
      mark(row, item.id === this.current);
      out.append(row);
    }
    if (!this.items.length) out.append(Object.assign(document.createElement("p"), { className: "none", textContent: t("none") }));
    list.replaceChildren(out);
    if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"] a`)?.focus();
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    if (event.target.closest(".remove")) this.ask(row.dataset.id);
    else if (!event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); this.on.open(row.dataset.id); }
  }

  key(event) {
    const links = [...list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to !== undefined && at >= 0) {
      event.preventDefault();
      links[Math.max(0, Math.min(to, links.length - 1))].focus();
    } else if (event.key === "Delete" && at >= 0) this.ask(links[at].closest(".row").dataset.id);
  }

  ask(id) {
    dialog.querySelector("p").textContent = t("delete_more", { title: this.title(id) ?? "" });
    dialog.returnValue = "no";
    dialog.onclose = () => dialog.returnValue === "yes" && this.on.remove(id);
    dialog.showModal();
  }
}

function mark(row, current) {
  row.classList.toggle("current", current);
  if (current) row.firstChild.setAttribute("aria-current", "page");
  else row.firstChild.removeAttribute("aria-current");
}
