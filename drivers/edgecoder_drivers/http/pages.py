"""Pages for people: plain tables of what a node says as JSON, renewed every two seconds, with nothing of elsewhere."""

from __future__ import annotations

from typing import Final

_HEAD: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 56rem; padding: 0 1rem; color: #1b1f24 }
  h1 { font-size: 1.25rem } h2 { font-size: 1rem; margin-top: 2rem }
  table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .8rem .3rem 0 }
  th { font-weight: 600; border-bottom: 1px solid #d0d7de } td { border-bottom: 1px solid #eaeef2 }
  .number { text-align: right } #error { color: #a40e26 } .active { font-weight: 600 }
  @media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3 } td, th { border-color: #30363d } }
</style>
"""
_ROW: Final = """
<script>
const row = (cells, tag = "td") => {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const field = document.createElement(tag);
    field.textContent = cell ?? "";
    if (typeof cell === "number") field.className = "number";
    line.append(field);
  }
  return line;
};
"""
_END: Final = """
show();
setInterval(show, 2000);
</script>
</html>
"""


def page_of(title: str, body: str, show: str) -> str:
    """A page. `show` is JavaScript that defines a function of that name, which fills the body's tables with `row`."""
    return f"{_HEAD}<title>{title}</title>\n<h1>{title}</h1>\n{body}{_ROW}{show}{_END}"
