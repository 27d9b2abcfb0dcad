"""How the page looks: light and dark, from a phone to a wide screen, and on paper. No image, no font from elsewhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --sheet: #ffffff; --ink: #1f2328; --soft: #59616b; --line: #e2dfd7; --code: #f3f1eb;
  --mark: #0a6573; --bad: #b3261e; --bad-paper: #fdf0ee; --good: #1d6b3b;
  --mono: ui-monospace, "Cascadia Mono", "Source Code Pro", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  --sans: system-ui, "Noto Sans", "Cantarell", "DejaVu Sans", "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b; --sheet: #1d2024; --ink: #e6e5e1; --soft: #a4abb4; --line: #32363c; --code: #262a2f;
    --mark: #74c9d6; --bad: #ff9c92; --bad-paper: #33211f; --good: #86d3a0;
  }
}
*, ::before, ::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.6 var(--sans); }
main { max-width: 68rem; margin: 0 auto; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 2.5rem) 4rem; }
h1 { margin: 0; font-size: clamp(1.35rem, 1rem + 1.7vw, 2.1rem); line-height: 1.32; font-weight: 650;
  letter-spacing: -0.01em; text-wrap: pretty; overflow-wrap: anywhere; }
h1 code { background: none; padding: 0; color: var(--mark); font-size: 0.92em; }
h2 { margin: 0; font-size: 1rem; line-height: 1.5; font-weight: 650; }
p { margin: 0; overflow-wrap: anywhere; }
code, pre { font-family: var(--mono); font-size: 0.875em; }
code { background: var(--code); border-radius: 0.25rem; padding: 0.1em 0.3em; overflow-wrap: anywhere; }
pre { margin: 0; padding: 0.75rem 0.9rem; background: var(--code); border-radius: 0.5rem; line-height: 1.55;
  overflow-x: auto; tab-size: 4; }
pre code { background: none; padding: 0; font-size: 1em; overflow-wrap: normal; }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }

.kicker { margin: 0 0 0.6rem; color: var(--soft); font-size: 0.875rem; }
.notes { list-style: none; margin: 1.25rem 0 0; padding: 0; display: grid; gap: 0.5rem; }
.notes li { border-left: 3px solid var(--mark); padding: 0.1rem 0 0.1rem 0.8rem; overflow-wrap: anywhere; }
.notes li.bad { border-color: var(--bad); color: var(--bad); font-weight: 600; }
dl { margin: 0; display: grid; grid-template-columns: minmax(6.5rem, max-content) minmax(0, 1fr);
  gap: 0.35rem 1.25rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
header dl { margin-top: 1.75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); font-size: 0.9375rem; }

section { margin-top: 2.25rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
section > h2 { margin-bottom: 0.9rem; }
.body { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); }
.steps { margin: 0; padding: 0; list-style: none; counter-reset: step; display: grid;
  grid-template-columns: minmax(0, 1fr); gap: 0.75rem; }
.steps > li { counter-increment: step; position: relative; background: var(--sheet); border: 1px solid var(--line);
  border-radius: 0.6rem; padding: 0.85rem 1rem 0.95rem 3rem; }
.steps > li::before { content: counter(step); position: absolute; left: 0.9rem; top: 0.95rem; width: 1.4rem;
  height: 1.4rem; border-radius: 50%; background: var(--mark); color: var(--paper); font-size: 0.8rem; font-weight: 700;
  line-height: 1.4rem; text-align: center; }
.steps pre { margin-top: 0.6rem; padding: 0.5rem 0.75rem; }
pre.wrap, pre.wrap code { white-space: pre-wrap; overflow-wrap: anywhere; }
.steps pre code { user-select: all; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9375rem; }
caption { text-align: left; color: var(--soft); font-size: 0.875rem; padding-bottom: 0.4rem; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 0.8125rem; }
th, td { padding: 0.4rem 1rem 0.4rem 0; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
td:last-child, th:last-child { padding-right: 0; }
td code, dd code { background: none; padding: 0; }
td code { overflow-wrap: inherit; }
.dim, .faint { color: var(--soft); }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }

details { background: var(--sheet); border: 1px solid var(--line); border-radius: 0.6rem; }
summary { cursor: pointer; padding: 0.7rem 1rem; font-weight: 600; border-radius: 0.6rem; }
details > .body { padding: 0 1rem 1rem; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 0.8125rem; }

@media (min-width: 60rem) {
  section { display: grid; grid-template-columns: 13rem minmax(0, 1fr); column-gap: 2rem; }
  section > h2 { margin: 0; position: sticky; top: 1.5rem; align-self: start; }
  header dl { grid-template-columns: repeat(2, max-content minmax(0, 1fr)); }
}
@media (max-width: 42rem) {
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dt { font-size: 0.8125rem; margin-top: 0.5rem; }
  dt:first-of-type { margin-top: 0; }
  header dl { grid-template-columns: max-content minmax(0, 1fr); gap: 0.2rem 1rem; font-size: 0.875rem; }
  header dt { margin: 0; font-size: inherit; }
  .steps > li { padding-left: 2.9rem; }
  table, tbody, tr, td, caption { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  tr { border-bottom: 1px solid var(--line); padding: 0.5rem 0; }
  td { border: 0; padding: 0.05rem 0; }
  td + td { font-size: 0.875rem; color: var(--soft); }
  td + td.good { color: var(--good); }
  td + td.bad { color: var(--bad); }
  td[data-head]:empty { display: none; }
  td[data-head]::before { content: attr(data-head) ": "; color: var(--soft); font-weight: 400; }
}
@media print {
  :root { --paper: #fff; --sheet: #fff; --ink: #000; --soft: #444; --line: #bbb; --code: #f4f4f4; --mark: #000;
    --bad: #900; --good: #060; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  section { display: block; break-inside: auto; margin-top: 1.2rem; padding-top: 0.8rem; }
  section > h2 { position: static; margin-bottom: 0.5rem; break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  tr, .steps > li { break-inside: avoid; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  .steps > li::before { border: 1px solid #000; background: none; color: #000; }
}
"""
