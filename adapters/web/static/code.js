// What the page adds to an answer's HTML: a bar on code blocks, colours, room for wide tables; and the way back to Markdown.

import { t } from "./text.js";

const KEYWORDS = new Set(("abstract and as assert async await base bool boolean break byte case catch char class const constexpr continue " +
  "crate def default defer del do done double elif else end enum esac except export extends extern false False fi final finally float fn for foreach " +
  "from func function global go goto if impl implements import in include instanceof int interface internal is lambda let long loop " +
  "match mod module mut namespace new nil None nonlocal not null nullptr object of operator or override package pass private protected pub " +
  "public raise readonly ref require return self Self sealed short signed sizeof static str string struct super switch synchronized template then " +
  "this throw throws trait true True try type typedef typeof undefined union unless unsafe unsigned until use using var virtual void " +
  "volatile when where while with yield").split(" "));
const SQL = new Set(("select from where and or not null is in like between join left right inner outer full on as group by order having " +
  "limit offset insert into values update set delete create table index view drop alter add primary key references unique default " +
  "distinct union all exists case when then else end begin commit rollback with returning conflict do nothing asc desc").split(" "));
const PLAIN = new Set(["", "text", "txt", "plain", "plaintext", "output", "console", "markdown", "md", "csv", "log", "diff", "html", "xml", "svg", "vue"]);
const HASH = new Set("python py bash sh shell zsh yaml yml toml ruby rb perl r dockerfile makefile make conf ini nginx elixir julia powershell ps1".split(" "));
const DASHES = new Set("sql postgresql mysql sqlite plsql lua haskell hs".split(" "));
const LONGEST = 40000;

function pattern(language) {
  const comment = HASH.has(language) ? "(?<=^|\\s)#[^\\n]*" : DASHES.has(language) ? "--[^\\n]*" : "//[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|$)";
  const strings = '"""[\\s\\S]*?(?:"""|$)|\'\'\'[\\s\\S]*?(?:\'\'\'|$)|"(?:\\\\.|[^"\\\\\\n])*"?|\'(?:\\\\.|[^\'\\\\\\n])*\'?|`(?:\\\\.|[^`\\\\])*`?';
  return new RegExp(`(${comment})|(${strings})|(\\b\\d[\\w.]*)|([A-Za-z_$][\\w$]*)(\\s*\\()?`, "gm");
}

function colour(code, language) {
  const text = code.textContent;
  if (PLAIN.has(language) || text.length > LONGEST) return;
  const sql = DASHES.has(language) && language !== "lua";
  const out = document.createDocumentFragment();
  let end = 0;
  for (const found of text.matchAll(pattern(language))) {
    const [, comment, string, number, word, call] = found;
    const kind = comment ? "c" : string ? "s" : number ? "n"
      : (sql ? SQL.has(word.toLowerCase()) : KEYWORDS.has(word)) ? "k" : call !== undefined ? "f" : "";
    if (!kind) continue;
    const part = comment ?? string ?? number ?? word;
    out.append(text.slice(end, found.index));
    out.append(Object.assign(document.createElement("span"), { className: kind, textContent: part }));
    end = found.index + part.length;
  }
  out.append(text.slice(end));
  code.replaceChildren(out);
}

/** Dress the blocks of `root`. Colours wait until a block is complete. */
export function dress(root, complete) {
  for (const pre of root.querySelectorAll("pre:not(.maths)")) {
    const code = pre.firstElementChild;
    const language = /language-(\S+)/.exec(code?.className ?? "")?.[1].toLowerCase() ?? "";
    const block = document.createElement("div");
    block.className = "code";
    const bar = document.createElement("div");
    bar.className = "bar";
    const name = document.createElement("span");
    name.textContent = language || "text";
    bar.append(name, iconButton("copy", "copy-code", true));
    pre.replaceWith(block);
    pre.tabIndex = 0;
    block.append(bar, pre);
    if (complete && code) colour(code, language);
  }
  for (const table of root.querySelectorAll("table")) {
    const wrap = document.createElement("div");
    wrap.className = "wide";
    wrap.tabIndex = 0;
    table.replaceWith(wrap);
    wrap.append(table);
  }
  return root;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with one of the page's icons; `worded` shows its label too. */
export function iconButton(text, className, worded = false, name = text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = className;
  button.append(icon(name));
  if (worded) button.append(Object.assign(document.createElement("span"), { textContent: t(text) }));
  else { button.title = t(text); button.setAttribute("aria-label", t(text)); }
  return button;
}

/** Copy, and say so on the button for a moment. Works without a secure context too. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  const use = button.querySelector("use"), word = button.querySelector("span");
  use.setAttribute("href", "#i-check");
  if (word) word.textContent = t("copied");
  document.getElementById("announce").textContent = t("copied");
  setTimeout(() => { use.setAttribute("href", "#i-copy"); if (word) word.textContent = t("copy"); }, 1600);
}

/** Markdown of an answer's HTML. The server writes few tags, so this knows them all. */
export function markdown(root) {
  const inside = (node) => [...node.childNodes].map(one).join("");
  const blocks = (node) => inside(node).replace(/\n{3,}/g, "\n\n").trim();
  const indent = (text, by) => text.replace(/\n(?=.)/g, `\n${" ".repeat(by)}`);
  const fence = (text, language) => {
    const mark = "`".repeat(Math.max(3, ...[...text.matchAll(/`{3,}/g)].map((m) => m[0].length + 1)));
    return `\n\n${mark}${language}\n${text.replace(/\n$/, "")}\n${mark}\n\n`;
  };
  function list(node) {
    const tight = !node.querySelector(":scope > li > p");
    const items = [...node.children].map((item, at) => {
      const mark = node.tagName === "OL" ? `${(node.start || 1) + at}. ` : "- ";
      return mark + indent(blocks(item).replace(tight ? /\n\n(?=\s*([-*]|\d+\.) )/g : /$^/, "\n"), mark.length);
    });
    return `\n\n${items.join(tight ? "\n" : "\n\n")}\n\n`;
  }
  function table(node) {
    const cells = (row) => [...row.cells].map((cell) => inside(cell).trim().replace(/\|/g, "\\|"));
    const [head, ...rows] = [...node.rows].map(cells);
    return `\n\n${[head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n")}\n\n`;
  }
  function one(node) {
    if (node.nodeType === Node.TEXT_NODE) return node.parentElement.matches("ul,ol,table,blockquote,.md") ? "" : node.textContent;
    switch (node.tagName) {
      case "P": return `\n\n${inside(node)}\n\n`;
      case "H1": case "H2": case "H3": case "H4": case "H5": case "H6": return `\n\n${"#".repeat(+node.tagName[1])} ${inside(node)}\n\n`;
      case "PRE": return node.matches(".maths") ? `\n\n$$\n${node.textContent.trim()}\n$$\n\n`
        : fence(node.textContent, /language-(\S+)/.exec(node.firstElementChild?.className ?? "")?.[1] ?? "");
      case "CODE": return node.matches(".maths") ? `$${node.textContent}$` : node.textContent.includes("`") ? `\`\` ${node.textContent} \`\`` : `\`${node.textContent}\``;
      case "STRONG": return `**${inside(node)}**`;
      case "EM": return `*${inside(node)}*`;
      case "DEL": return `~~${inside(node)}~~`;
      case "A": { const text = inside(node), to = node.getAttribute("href"); return text === to ? `<${to}>` : `[${text}](${to})`; }
      case "BR": return "  ";
      case "HR": return "\n\n---\n\n";
      case "UL": case "OL": return list(node);
      case "TABLE": return table(node);
      case "BLOCKQUOTE": return `\n\n${blocks(node).replace(/^/gm, "> ")}\n\n`;
      case "INPUT": return node.checked ? "[x]" : "[ ]";
      case "BUTTON": return "";
      default: return node.matches(".bar, .target") ? "" : inside(node);
    }
  }
  return blocks(root) + "\n";
}
