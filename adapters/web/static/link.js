// The WebSocket: a session first, then hello; when it breaks, again and again, with growing pauses.

const FIRST_PAUSE = 300, LONGEST_PAUSE = 15000;

export class Link {
  /** `on` has message(event), state("connecting" | "online" | "offline" | "login" | "tabs"). */
  constructor(on) {
    this.on = on;
    this.socket = null;
    this.failures = 0;
    this.timer = 0;
    this.ended = false;
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.now());
  }

  /** Connect at once instead of after the pause; looks whether a quiet connection still lives. */
  now() {
    if (this.ended) return;
    if (this.online) this.probe();
    else if (this.timer) { clearTimeout(this.timer); this.connect(); }
  }

  get online() { return this.socket?.ready === true; }

  /** A connection may be dead without knowing: ask for something and listen. */
  probe() {
    if (Date.now() - this.heard < 20000) return;
    const socket = this.socket, asked = Date.now();
    this.send({ type: "list" });
    setTimeout(() => { if (socket === this.socket && this.heard < asked) this.lost(socket); }, 5000);
  }

  async connect() {
    this.timer = 0;
    this.ended = false;
    const attempt = (this.attempt = Symbol("attempt"));
    this.on.state(this.failures || this.heard ? "offline" : "connecting");
    let session;
    try {
      session = await post("/web/session");
    } catch {
      if (attempt === this.attempt) this.again();
      return;
    }
    if (attempt !== this.attempt) return;
    if (!session.welcome) { this.ended = true; this.on.state("login"); return; }
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/web/socket`);
    this.socket = socket;
    const deadline = setTimeout(() => socket.ready || this.lost(socket), 10000);
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", csrf: session.csrf }));
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      this.heard = Date.now();
      const event = JSON.parse(data);
      if (event.type === "ready") { clearTimeout(deadline); socket.ready = true; this.failures = 0; this.on.state("online"); }
      this.on.message(event);
    };
    socket.onclose = ({ code }) => {
      clearTimeout(deadline);
      if (socket !== this.socket) return;
      if (code === 4009) { this.socket = null; this.ended = true; this.on.state("tabs"); } else this.lost(socket);
    };
  }

  lost(socket) {
    this.socket = null;
    socket.onclose = socket.onmessage = null;
    socket.close();
    this.again();
  }

  again() {
    this.on.state("offline");
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures++) * (0.5 + Math.random() / 2);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), pause);
  }

  /** Send if there is a connection; false if not. */
  send(message) {
    if (!this.online || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}

/** POST JSON to our own server; returns its answer, or throws an Error with `status`. */
export async function post(path, body = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10000),
  });
  if (!response.ok) throw Object.assign(new Error(`${path}: ${response.status}`), { status: response.status });
  return response.json();
}
