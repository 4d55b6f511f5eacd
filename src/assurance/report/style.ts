/** The look of the HTML report: one ink, one accent, tables that break between rows, legible in black and white. */
export const STYLE = `
:root { --ink: #1b2430; --soft: #566273; --line: #d5dbe3; --ground: #f5f7f9; --accent: #1f4e79; --bad: #a3161b; --warn: #7a5200; --good: #17603a; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 2rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { margin: 0 0 1rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.015em; font-weight: 650; }
h2 { margin: 3rem 0 1rem; padding-bottom: .35rem; border-bottom: 2px solid var(--accent); color: var(--accent);
  font-size: 1rem; letter-spacing: .06em; font-weight: 650; }
h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 650; line-height: 1.35; }
p { margin: .6rem 0; max-width: 46rem; }
a { color: var(--accent); }
header { border-top: 6px solid var(--accent); padding-top: 1.5rem; }
dl { margin: 0; }
dl > div { display: grid; grid-template-columns: 11rem 1fr; gap: 0 1rem; padding: .22rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
dl.head { font-size: 1.05rem; }
dl.head > div { grid-template-columns: 12.5rem 1fr; }
dl.head dd { font-weight: 550; }
dd ul { margin: 0; padding-left: 1.1rem; }
nav { margin: 1.6rem 0 0; padding: .8rem 1rem; background: var(--ground); border-radius: 6px; }
nav ol { margin: 0; padding: 0; list-style: none; columns: 3; column-gap: 1.5rem; font-size: .8rem; letter-spacing: .03em; }
nav li { padding: .12rem 0; break-inside: avoid; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
article { padding: .9rem 1.1rem; margin: 0 0 .8rem; border: 1px solid var(--line); border-left: 3px solid var(--accent); border-radius: 4px; break-inside: avoid; }
table { width: 100%; margin: 1.4rem 0; border-collapse: collapse; font-size: .86rem; line-height: 1.4; }
caption { padding: 0 0 .45rem; text-align: left; font-weight: 650; font-size: 1.06em; break-after: avoid; }
thead { display: table-header-group; }
th, td { padding: .42rem .6rem .42rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
thead th { color: var(--soft); font-weight: 550; border-bottom: 1.5px solid var(--ink); overflow-wrap: normal; }
tbody th { font-weight: 550; min-width: 7rem; }
tr { break-inside: avoid; }
table.columns { width: auto; }
table.columns td, table.columns thead th + th { text-align: right; padding-left: 1.4rem; }
code { font: .82em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; word-break: break-all; }
.good { color: var(--good); }
.bad { color: var(--bad); font-weight: 650; }
.warn { color: var(--warn); }
.quiet { color: var(--soft); }
dd > .bad::before, td > .bad::before { content: "\\25B2\\00A0"; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figcaption { color: var(--soft); font-size: .82rem; padding-top: .3rem; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .78rem; overflow-wrap: anywhere; }
.drawing { display: block; width: 100%; height: auto; max-height: 260mm; font-family: inherit; }
.drawing text { fill: var(--ink); font-size: 12px; }
.drawing .small { font-size: 10.5px; fill: var(--soft); }
.drawing .tick { font-size: 10px; fill: var(--soft); }
.drawing .end { text-anchor: end; }
.drawing .middle { text-anchor: middle; }
.drawing .level { font-size: 22px; font-weight: 650; fill: var(--accent); }
.drawing .level-line { stroke: var(--line); stroke-dasharray: 1 4; stroke-linecap: round; stroke-width: 1.5; }
.drawing .zone { fill: var(--ground); stroke: #8592a3; stroke-width: 1.2; }
.drawing .zone.safety { fill: #fff; stroke: var(--bad); stroke-width: 1.8; }
.drawing .zone-id { font-size: 13px; font-weight: 650; }
.drawing .zone-name { font-size: 12px; }
.drawing .conduit { fill: none; stroke-width: 2.6; }
.drawing .conduit.enforced { stroke: var(--accent); }
.drawing .conduit.watched { stroke: var(--warn); stroke-dasharray: 7 5; }
.drawing .conduit.elsewhere { stroke: #6b7684; stroke-dasharray: 1.5 5; stroke-linecap: round; }
.drawing .label { fill: #fff; stroke-width: 1.2; }
.drawing .label.enforced { stroke: var(--accent); }
.drawing .label.watched { stroke: var(--warn); }
.drawing .label.elsewhere { stroke: #8592a3; }
.drawing .conduit-id { font-size: 11.5px; font-weight: 650; }
.drawing .axis { stroke: var(--soft); }
.drawing .grid { stroke: #e4e8ed; }
.drawing .bar-denied { fill: #a3161b; }
.drawing .bar-refused { fill: #3d4856; }
.drawing .bar-would-deny { stroke: #b97f10; stroke-width: .8; }
.drawing .hatch-ground { fill: #fdf3dc; }
.drawing .hatch-line { fill: #b97f10; }
@media (max-width: 40rem) { body { padding: 1.2rem; } dl > div { grid-template-columns: 1fr; } nav ol { columns: 1; } table.records { display: block; overflow-x: auto; } }
@page { size: A4; margin: 16mm 15mm 18mm; @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #566273; } @bottom-left { content: "IEC 62443 Zone Implementation Report"; font: 8pt sans-serif; color: #566273; } }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  h1 { font-size: 20pt; }
  h2 { margin-top: 1.8rem; font-size: 10.5pt; break-after: avoid; }
  h3, caption { break-after: avoid; }
  table { font-size: 8.2pt; }
  a { color: inherit; text-decoration: none; }
  .good, .bad, .warn, article, .drawing * , .drawing { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`
