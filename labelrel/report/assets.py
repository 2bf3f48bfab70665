"""The page's style and its one script; both stand in the page, and the page allows no other."""

from __future__ import annotations

import base64
import hashlib

_LIGHT = (
    "--ground: #fff; --ink: #1f2328; --muted: #5c6570; --line: #e3e6ea; --card: #f6f7f9; --accent: #0072b2;"
    " --light: block; --dark: none; color-scheme: light;"
)
_DARK = (
    "--ground: #161a20; --ink: #e6e8eb; --muted: #9aa3ad; --line: #2c323a; --card: #1d222a; --accent: #56b4e9;"
    " --light: none; --dark: block; color-scheme: dark;"
)

STYLE = (
    f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
:root[data-theme=light] {{ {_LIGHT} }}
:root[data-theme=dark] {{ {_DARK} }}
"""
    + """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 32px 24px 80px; }
header { display: flex; gap: 16px; align-items: flex-start; justify-content: space-between; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 44px 0 8px; }
h3 { font-size: 15px; margin: 24px 0 4px; }
p { margin: 8px 0; }
a { color: var(--accent); }
nav { font-size: 14px; margin: 18px 0 0; line-height: 1.9; }
nav a { margin-right: 16px; white-space: nowrap; text-decoration: none; }
nav a:hover { text-decoration: underline; }
.muted, figcaption, dd { color: var(--muted); font-size: 14px; max-width: 920px; }
.answer { border-left: 4px solid var(--accent); background: var(--card); padding: 14px 18px; margin: 22px 0;
  font-size: 17px; border-radius: 0 6px 6px 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 14px; line-height: 22px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px 6px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th.text, th.prose, th.digest, td.text { text-align: left; }
td.prose { text-align: left; white-space: normal; min-width: 9em; overflow-wrap: anywhere; }
td.digest { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 14em;
  font-family: ui-monospace, monospace; font-size: 12px; }
th button { all: unset; cursor: pointer; border-radius: 3px; }
th button::after { content: "\\2195"; display: inline-block; width: 1.1em; text-align: center; opacity: .45; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
th button:hover, th[aria-sort] button { color: var(--ink); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
tr.best td { font-weight: 650; }
tr.floor td, tr.ceiling td, tr.control td { color: var(--muted); }
figure { margin: 0; max-width: 920px; }
figure img { width: 100%; height: auto; border-radius: 6px; }
img.light { display: var(--light); }
img.dark { display: var(--dark); }
dt { font-weight: 600; font-size: 14px; margin-top: 8px; }
dd { margin: 0; }
pre { background: var(--card); padding: 12px 16px; border-radius: 6px; overflow-x: auto; font-size: 13px; }
summary { cursor: pointer; color: var(--muted); font-size: 14px; margin: 10px 0; }
#theme { font: inherit; font-size: 14px; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 5px 12px; cursor: pointer; white-space: nowrap; }
@media (max-width: 700px) {
  main { padding: 20px 16px 60px; }
  h1 { font-size: 21px; }
  .answer { font-size: 16px; }
  nav { display: flex; overflow-x: auto; }
  figure img { width: 680px; max-width: none; }
  td.prose { min-width: 11em; }
  table.sortable th:first-child, table.sortable td:first-child { position: sticky; left: 0;
    background: var(--ground); }
  table.sortable td.text:first-child { white-space: normal; min-width: 6.5em; overflow-wrap: break-word; }
}
@page { margin: 14mm; }
@media print {
  :root, :root[data-theme] { """
    + _LIGHT
    + """ }
  main { max-width: none; padding: 0; }
  nav, #theme { display: none; }
  body { font-size: 11pt; }
  .answer { font-size: 12pt; }
  .wide { overflow: visible; }
  table { font-size: 8pt; line-height: 1.4; }
  th, td, td.text { padding: 3px 6px 3px 0; white-space: normal; }
  td.prose, td.digest { min-width: 0; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  th button::after { content: ""; width: 0; }
  h2, h3 { break-after: avoid; }
  tr, figure, pre, .answer { break-inside: avoid; }
  thead { display: table-header-group; }
}
"""
)

SCRIPT = """
"use strict";
(() => {
  const root = document.documentElement, key = "labelrel-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  // a page in a frame, or one opened from a file, may be denied its memory
  const remembered = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const remember = value => { try { localStorage.setItem(key, value); } catch { /* this visit only */ } };

  const button = document.getElementById("theme");
  const label = () => { button.textContent = theme() === "dark" ? "Light theme" : "Dark theme"; };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    remember(root.dataset.theme);
    label();
  });
  dark.addEventListener("change", label);
  label();

  const value = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [a, b].map(text => Number(text.replaceAll(",", "")));
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0], original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const sort = (head, column) => {
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const now = { [first]: second, [second]: null }[head.ariaSort ?? ""];
      const order = now === undefined ? first : now;  // then the other way, then as it came
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (order) head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const rows = [...original];
      if (order) rows.sort((one, other) => {
        const [a, b] = [value(one, column), value(other, column)];
        return a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b);  // nothing goes last
      });
      body.append(...rows);
    };
    heads.forEach((head, column) => {
      const press = document.createElement("button");
      press.type = "button";
      press.append(...head.childNodes);
      press.addEventListener("click", () => sort(head, column));
      head.append(press);
    });
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach(one => { one.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach(one => { one.open = false; }));
})();
"""


def policy() -> str:
    """Return the page's content security policy: this style, this script, pictures of its own, nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
