"""A page for people: what `GET /model/status` and `GET /model/list` say, renewed every two seconds."""

from __future__ import annotations

STYLE = """<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 56rem; padding: 0 1rem; color: #1b1f24 }
  h1 { font-size: 1.25rem } h2 { font-size: 1rem; margin-top: 2rem }
  table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .8rem .3rem 0 }
  th { font-weight: 600; border-bottom: 1px solid #d0d7de } td { border-bottom: 1px solid #eaeef2 }
  .number { text-align: right } #error { color: #a40e26 } .active { font-weight: 600 }
  @media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3 } td, th { border-color: #30363d } }
</style>"""
PAGE = (
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>EdgeCoder</title>
"""
    + STYLE
    + """
<h1>EdgeCoder</h1>
<p id="error" role="alert"></p>
<table id="status"></table>
<h2>Models</h2>
<table id="models"></table>
<p>The contract: <a href="/openapi.json">/openapi.json</a>. Counters: <a href="/metrics">/metrics</a>.</p>
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
const show = async () => {
  try {
    const [status, list] = await Promise.all(
      ["/model/status", "/model/list"].map(async path => (await fetch(path)).json()));
    document.getElementById("error").textContent = "";
    document.getElementById("status").replaceChildren(
      row(["model", status.model ?? "none"]), row(["status", status.status]), row(["engine", status.engine]),
      row(["load", status.currentLoad]), row(["coordinator", status.online ? "online" : "none"]),
      ...(status.coordinators ?? []).map(each =>
        row([`${each.coordinatorId.slice(0, 8)}@${each.endpoint}`,
          each.state + (each.home ? ", home" : "") + (each.detail ? `: ${each.detail}` : "")])),
      ...(status.reason ? [row(["last change", status.detail])] : []),
      ...(status.pullProgress ?? []).map(pull =>
        row([`pulling ${pull.model}`, `${Math.floor(100 * pull.bytesDone / pull.sizeBytes)} %`])));
    document.getElementById("models").replaceChildren(
      row(["model", "billions", "quantization", "GB", "state", "source"], "th"),
      ...list.models.map(model => {
        const line = row([model.modelId, model.paramSize, model.quantization,
          Number((model.fileSizeBytes / 1e9).toFixed(2)), model.active ? "active" : model.state, model.source]);
        if (model.active) line.className = "active";
        return line;
      }));
  } catch (error) {
    document.getElementById("error").textContent = `The node does not answer: ${error.message}`;
  }
};
show();
setInterval(show, 2000);
</script>
</html>
"""
)
