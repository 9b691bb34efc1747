// What the page remembers in this browser. Works without storage too (private windows, full disks): it then forgets.

const memory = new Map();

export const store = {
  get(name) {
    try { return localStorage.getItem(name) ?? memory.get(name) ?? null; } catch { return memory.get(name) ?? null; }
  },
  set(name, value) {
    memory.set(name, value);
    try { localStorage.setItem(name, value); } catch { /* kept in memory */ }
  },
  remove(name) {
    memory.delete(name);
    try { localStorage.removeItem(name); } catch { /* it was never there */ }
  },
};

export const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

// Questions that the server has not acknowledged. Each keeps its id, so however often they are sent they are answered
// once; several tabs may send the same one.
export const outbox = {
  all() {
    try { return JSON.parse(store.get("outbox") ?? "[]"); } catch { return []; }
  },
  add(item) { store.set("outbox", JSON.stringify([...this.all(), item].slice(-50))); },
  take(clientId) {
    const all = this.all();
    store.set("outbox", JSON.stringify(all.filter((item) => item.client_id !== clientId)));
    return all.find((item) => item.client_id === clientId);
  },
  drop(conversation) { store.set("outbox", JSON.stringify(this.all().filter((item) => item.conversation !== conversation))); },
  clear() { store.remove("outbox"); },
};
