// Every word of the page, in English and Chinese, and times as people say them.

import { store } from "./store.js";

const TEXTS = {
  skip: ["Skip to the message field", "跳到输入框"],
  new: ["New chat", "新对话"],
  conversations: ["Conversations", "对话列表"],
  chat: ["Conversation", "对话"],
  hide: ["Hide conversations", "收起对话列表"],
  show: ["Show conversations", "显示对话列表"],
  other: ["中文", "English"],
  language: ["切换到中文", "Switch to English"],
  leave: ["Sign out", "退出登录"],
  theme_auto: ["Theme: as the system", "主题：跟随系统"],
  theme_light: ["Theme: light", "主题：浅色"],
  theme_dark: ["Theme: dark", "主题：深色"],
  model: ["Model", "模型"],
  hello: ["What can I help with?", "有什么可以帮您？"],
  hint: ["Your conversations stay in this browser's list. Type / for commands, such as /help.", "对话会保留在此浏览器的列表中。输入 / 可使用命令，例如 /帮助。"],
  prompt: ["Message", "输入消息"],
  send: ["Send", "发送"],
  stop: ["Stop", "停止"],
  latest: ["Jump to latest", "跳到最新"],
  more: ["Show earlier messages", "显示更早的消息"],
  copy: ["Copy", "复制"],
  copy_answer: ["Copy answer", "复制回答"],
  copied: ["Copied", "已复制"],
  again: ["Try again", "重试"],
  anew: ["Answer again", "重新回答"],
  delete: ["Delete", "删除"],
  delete_one: ["Delete “{title}”", "删除“{title}”"],
  delete_ask: ["Delete this conversation?", "删除这个对话？"],
  delete_more: ["“{title}” will be removed from the server. This cannot be undone.", "“{title}”将从服务器上删除，且无法恢复。"],
  cancel: ["Cancel", "取消"],
  none: ["Nothing here yet.", "还没有对话。"],
  today: ["Today", "今天"],
  yesterday: ["Yesterday", "昨天"],
  week: ["Last 7 days", "最近 7 天"],
  older: ["Older", "更早"],
  connecting: ["Connecting…", "正在连接…"],
  reconnecting: ["Reconnecting…", "正在重新连接…"],
  tabs: ["Open in too many tabs. Reload to use this one.", "打开的标签页过多，请刷新后使用此页。"],
  update: ["A new version is here.", "有新版本。"],
  reload: ["Reload", "刷新"],
  queued: ["Waiting for its turn", "排队中"],
  thinking: ["Thinking", "思考中"],
  unsent: ["Not sent yet", "尚未发送"],
  expired: ["This message came too late to be answered.", "这条消息因等待过久未被回答。"],
  stopped: ["Stopped", "已停止"],
  failed: ["Something went wrong.", "出了点问题。"],
  reference: ["Reference {id}", "编号 {id}"],
  embedded: ["Answers come from the small embedded model {model}, to try things out. Set an API key for a better one.", "回答来自内置的小模型 {model}，仅供试用。设置 API 密钥即可使用更好的模型。"],
  key: ["Access key", "访问密钥"],
  enter: ["Continue", "继续"],
  keyhelp: ["Whoever runs this server can create one: chatgpt-ms keys create", "服务器管理员可以创建：chatgpt-ms keys create"],
  bad_key: ["This key is not valid.", "密钥无效。"],
  slow_key: ["Too many attempts. Wait a moment.", "尝试次数过多，请稍候。"],
  no_server: ["The server cannot be reached.", "无法连接到服务器。"],
  not_refused: ["This message was not accepted.", "消息未被接受。"],
  not_overloaded: ["The server is very busy. Your text is kept below; please send it again in a moment.", "服务器繁忙。文字已保留在下方，请稍后再发。"],
  not_closed: ["The server is restarting. Your text is kept below; please send it again in a moment.", "服务器正在重启。文字已保留在下方，请稍后再发。"],
  not_storage: ["The server cannot store messages right now. Your text is kept below; please send it again in a moment.", "服务器暂时无法保存消息。文字已保留在下方，请稍后再发。"],
  not_stale: ["This message was too old.", "消息已过期。"],
  not_ignored: ["This message was not accepted.", "消息未被接受。"],
  error_storage: ["The server cannot read its store right now.", "服务器暂时无法读取数据。"],
  error_other: ["That did not work. Please try again.", "操作未成功，请重试。"],
  you: ["You", "您"],
  example1: ["Explain how HTTPS keeps a connection private, in five sentences.", "用五句话解释 HTTPS 如何保护连接的隐私。"],
  example2: ["Write a Python function that finds duplicate files in a folder.", "写一个 Python 函数，找出文件夹中的重复文件。"],
  example3: ["Draft a friendly reply that declines a meeting.", "写一封婉拒会议的友好回复。"],
  example4: ["Compare SQLite and PostgreSQL in a table.", "用表格比较 SQLite 和 PostgreSQL。"],
};
export const EXAMPLES = ["example1", "example2", "example3", "example4"];

const chosen = store.get("language");
export let language = chosen === "en" || chosen === "zh" ? chosen : /^zh\b/i.test(navigator.language) ? "zh" : "en";
export const tag = () => (language === "zh" ? "zh-CN" : navigator.language.startsWith("en") ? navigator.language : "en");

/** The text `name` in the person's language, with {names} filled in. */
export function t(name, values = {}) {
  const text = TEXTS[name]?.[language === "zh" ? 1 : 0] ?? name;
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

export function toggleLanguage() {
  language = language === "zh" ? "en" : "zh";
  store.set("language", language);
}

/** Write the texts of everything under `root` that names one. */
export function label(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const each of root.querySelectorAll("[data-t]")) each.textContent = t(each.dataset.t);
  for (const each of root.querySelectorAll("[data-label]")) {
    const text = t(each.dataset.label);
    each.setAttribute("aria-label", text);
    if (each.matches("button")) each.title = text;
    if (each.matches("textarea")) each.placeholder = text;
  }
}

const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

/** How long ago, short: "now", "5 min", "3 h", "2 d", then the date. */
export function ago(at) {
  const past = Date.now() - at;
  const unit = (value, name) => new Intl.NumberFormat(tag(), { style: "unit", unit: name, unitDisplay: "narrow" }).format(value);
  if (past < MINUTE) return language === "zh" ? "刚刚" : "now";
  if (past < HOUR) return unit(Math.floor(past / MINUTE), "minute");
  if (past < DAY) return unit(Math.floor(past / HOUR), "hour");
  if (past < 7 * DAY) return unit(Math.floor(past / DAY), "day");
  return new Date(at).toLocaleDateString(tag(), { month: "short", day: "numeric" });
}

export const full = (at) => new Date(at).toLocaleString(tag(), { dateStyle: "medium", timeStyle: "short" });

/** Which heading of the list a time belongs under. */
export function period(at) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  return at >= midnight ? "today" : at >= midnight - DAY ? "yesterday" : at >= midnight - 7 * DAY ? "week" : "older";
}
