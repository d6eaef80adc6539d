"""The style sheet of all pages, for light and for dark screens."""

__all__ = ['STYLE']

STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --soft: #595959; --rule: #e6e6e6; --edge: #bbb;
  --stripe: #f6f6f6; --best: #1d7a3c; --missed: #b00020 }
@media (prefers-color-scheme: dark) { :root { --text: #e4e4e4; --page: #16181c; --soft: #a3a7ad; --rule: #2c3036;
  --edge: #565b63; --stripe: #1e2126; --best: #6fce8e; --missed: #ff8a8a } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 1480px;
  margin: 0 auto 4em; padding: 0 1.2em }
h1 { margin: 1em 0 0; overflow-wrap: anywhere } h2 { margin: 1.8em 0 .6em; border-bottom: 1px solid var(--edge) }
h3 { font-size: 14px; margin: 0 0 .3em; overflow-wrap: anywhere; padding-right: 3.4em }
section > p { max-width: 75em } .lead { color: var(--soft); margin: .2em 0; overflow-wrap: anywhere }
.lead code { color: var(--text) } code span { display: inline-block; max-width: 100%; overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse }
th, td { text-align: left; padding: .15em 1.4em .15em 0; vertical-align: top } th { font-weight: 600 }
td:first-child { min-width: 9em } details td:last-child { overflow-wrap: anywhere; min-width: 14em }
tbody tr:nth-child(odd) { background: var(--stripe) }
td { font-variant-numeric: tabular-nums } td.best { font-weight: 700; color: var(--best) }
.missed { color: var(--missed); font-weight: 600 }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 1.4em }
.pictures { display: flex; flex-wrap: wrap; gap: 1.6em } .pictures figure { max-width: min(100%, 700px) }
.sides { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(240px, 1fr); gap: 1.2em; overflow-x: auto;
  margin-bottom: 1.6em } .sides h4 { margin: 0 0 .3em; font-size: 13px; overflow-wrap: anywhere }
figure { margin: 0; position: relative } figure h3 { margin-top: 0 }
figure img { max-width: 100%; image-rendering: pixelated }
figure img[hidden] { display: none } figure input[type=range] { width: 100%; max-width: 420px; display: block }
figure input[hidden] { display: none }
figcaption { color: var(--soft); font-size: 13px } figcaption span { margin-right: 1em; white-space: nowrap }
figcaption i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em }
figcaption b { color: var(--text) }
svg { width: 100% } svg text { font-size: 11px; fill: var(--soft) } svg .frame { fill: none; stroke: var(--edge) }
svg .rule { stroke: var(--rule) } svg .cross { stroke: var(--soft); stroke-dasharray: 2 2 }
figure button { position: absolute; top: 0; right: 0; font: 12px system-ui; color: var(--soft); cursor: pointer;
  background: none; border: 1px solid var(--edge); border-radius: 3px; padding: 0 .5em }
figure button[aria-pressed=true] { color: var(--page); background: var(--soft) }
.values { position: absolute; pointer-events: none; background: var(--page); border: 1px solid var(--edge);
  border-radius: 3px; padding: .2em .6em; font-size: 12px; white-space: nowrap; font-variant-numeric: tabular-nums }
.values i { display: inline-block; width: .7em; height: .7em; margin-right: .4em } .values[hidden] { display: none }
summary { cursor: pointer; margin: .6em 0 }
"""
