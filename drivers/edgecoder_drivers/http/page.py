"""A page for people: what `GET /model/status` and `GET /model/list` say, renewed every two seconds."""

from __future__ import annotations

from edgecoder_drivers.http.pages import page_of

PAGE = page_of(
    "EdgeCoder",
    """<p id="error" role="alert"></p>
<table id="status"></table>
<h2>Models</h2>
<table id="models"></table>
<p>The contract: <a href="/openapi.json">/openapi.json</a>. Counters: <a href="/metrics">/metrics</a>.</p>
""",
    """const show = async () => {
  try {
    const [status, list] = await Promise.all(
      ["/model/status", "/model/list"].map(async path => (await fetch(path)).json()));
    document.getElementById("error").textContent = "";
    document.getElementById("status").replaceChildren(
      row(["model", status.model ?? "none"]), row(["status", status.status]), row(["engine", status.engine]),
      row(["load", status.currentLoad]), row(["coordinator", status.online ? "online" : "none"]),
      ...(status.coordinators ?? []).map(each =>
        row([each.coordinatorId.slice(0, 8) + (each.endpoint && `@${each.endpoint}`),
          each.state + (each.home ? ", home" : "") + (each.told ? ", named by another" : "") +
          (each.detail ? `: ${each.detail}` : "")])),
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
""",
)
