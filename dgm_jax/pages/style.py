"""The style sheet of all pages."""

__all__ = ['STYLE']

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1120px; margin: 0 auto 4em;
  padding: 0 1.2em }
h1 { margin: 1em 0 0 } h2 { margin: 1.8em 0 .6em; border-bottom: 1px solid #ddd }
h3 { font-size: 14px; margin: 0 0 .3em } .lead { color: #555; margin: .2em 0 }
table { border-collapse: collapse } th, td { text-align: left; padding: .15em 1.4em .15em 0; vertical-align: top }
th { font-weight: 600 } tbody tr:nth-child(odd) { background: #f7f7f7 } td { font-variant-numeric: tabular-nums }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 1.4em }
.pictures { display: flex; flex-wrap: wrap; gap: 1.6em } figure { margin: 0 }
figure img { max-width: 100%; image-rendering: pixelated } figcaption { color: #555; font-size: 13px }
figcaption span { margin-right: 1em } svg { width: 100% } svg text { font-size: 11px; fill: #666 }
summary { cursor: pointer; margin: .6em 0 }
"""
