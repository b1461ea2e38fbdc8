"""How the report looks, on any width, light and dark."""

STYLE = """
:root { --ink: #1f2937; --paper: #fff; --soft: #6b7280; --rule: #e5e7eb; --panel: #f3f4f6; --kept: #2563eb;
  --dropped: #ea580c; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e7eb; --paper: #111827; --soft: #9ca3af; --rule: #374151; --panel: #1f2937; --kept: #60a5fa;
    --dropped: #fb923c; --bad: #f87171; color-scheme: dark; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1200px;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
.soft { color: var(--soft); font-size: .88em; font-weight: 400; } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; }
.tiles div { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; }
.tiles b { display: block; font-size: 1.35rem; } .tiles span { color: var(--soft); font-size: .88em; }
.bar { display: grid; grid-template-columns: 11rem 1fr 12rem; gap: .8rem; align-items: center; padding: .15rem 0; }
.bar .line { display: flex; height: 1.1rem; background: var(--panel); border-radius: .2rem; overflow: hidden; }
.bar .line span { height: 100%; } .bar .said { font-variant-numeric: tabular-nums; text-align: right; }
.line .kept, .key.kept { background: var(--kept); } .line .dropped, .key.dropped { background: var(--dropped); }
.reasons .bar { font-size: .88em; color: var(--soft); } .reasons .line { height: .45rem; }
.reasons .name { padding-left: 1rem; } .reasons { margin-bottom: .5rem; }
.key { color: #fff; padding: 0 .4rem; border-radius: .2rem; }
@media (prefers-color-scheme: dark) { .key { color: #111827; } }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(270px, 100%), 1fr)); gap: 1.2rem; }
figure { margin: 0; } figcaption { font-size: .92em; } svg { width: 100%; height: auto; display: block; }
svg .kept { fill: var(--kept); fill-opacity: .65; } svg .dropped { fill: var(--dropped); fill-opacity: .55; }
svg .axis { stroke: var(--soft); fill: none; } svg .limit { stroke: var(--ink); stroke-dasharray: 4 3; fill: none; }
svg text { font-size: 11px; fill: var(--soft); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(220px, 100%), 1fr)); gap: 1rem; }
.card { font-size: .85em; } .card b, .card span { display: block; } .card b { font-weight: 600; margin-top: .3rem; }
video, .none { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #000; border-radius: .3rem;
  display: block; }
.none { background: var(--panel); color: var(--soft); display: grid; place-items: center; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; } th { font-weight: 600; }
.who img { border-radius: .3rem; vertical-align: middle; margin-right: .6rem; object-fit: cover; }
@media (max-width: 640px) {
  .bar { grid-template-columns: 1fr auto; gap: .1rem .6rem; } .bar .line { grid-column: 1 / -1; grid-row: 2; }
  .sheet { grid-template-columns: 1fr 1fr; gap: .7rem; } th, td { padding: .3rem .4rem; }
}
"""
