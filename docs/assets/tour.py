"""Writes tour.svg, a picture of a terminal with the tour of README.md: run `python3 docs/assets/tour.py`.

`tests/readme.rs` runs the commands of README.md, and checks that the picture shows only their lines.
Lines that are longer than the terminal end in an ellipsis.
"""

import html
import pathlib

COLUMNS = 98
HERE = pathlib.Path(__file__).parent
# The picture has this many blocks, from the start of the daemon on.
FIRST = "$ hecate-daemon 2>"
BLOCKS = 4


def blocks(readme):
    found, block = [], None
    for line in readme.splitlines():
        if line == "```console":
            block = []
        elif line == "```" and block is not None:
            found.append(block)
            block = None
        elif block is not None:
            block.append(line)
    return found


def text(line, y):
    cut = line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…"
    escaped = html.escape(cut, quote=False)
    kind = ""
    if cut.startswith("$ "):
        escaped, kind = f'<tspan class="prompt">$ </tspan>{escaped[2:]}', " command"
    elif cut.startswith("(") and "&gt; " in escaped:
        prompt, rest = escaped.split("&gt; ", 1)
        escaped, kind = f'<tspan class="prompt">{prompt}&gt; </tspan>{rest}', " command"
    elif cut.startswith("    -"):
        kind = " command"
    for word in ("running", "stopped"):
        escaped = escaped.replace(f" {word}", f' <tspan class="{word}">{word}</tspan>')
    return f'<text class="line{kind}" x="20" y="{y}" xml:space="preserve">{escaped}</text>'


tour = blocks((HERE / "../../README.md").read_text())
first = next(number for number, block in enumerate(tour) if block[0].startswith(FIRST))
lines, y = [], 62
for block in tour[first : first + BLOCKS]:
    for line in block:
        lines.append(text(line, y))
        y += 19
    y += 10
width, height = 870, y - 6

(HERE / "tour.svg").write_text(
    f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>The tour of README.md in a terminal</title>
<style>
text {{ font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #c9d1d9; }}
.command {{ fill: #ffffff; font-weight: bold; }}
.prompt {{ fill: #7d8590; font-weight: normal; }}
.running {{ fill: #3fb950; }}
.stopped {{ fill: #f85149; }}
</style>
<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10" fill="#0d1117" stroke="#484f58"/>
<circle cx="24" cy="22" r="6" fill="#f85149"/><circle cx="44" cy="22" r="6" fill="#d29922"/><circle cx="64" cy="22" r="6" fill="#3fb950"/>
"""
    + "\n".join(lines)
    + "\n</svg>\n"
)
