"""A coordinator's page for people: what `GET /mesh/capabilities` and `GET /healthz` say, renewed every two seconds."""

from __future__ import annotations

from edgecoder_drivers.http.pages import page_of

PAGE = page_of(
    "EdgeCoder coordinator",
    """<p id="error" role="alert"></p>
<table id="status"></table>
<table id="clones"></table>
<h2>Federation</h2>
<table id="coordinators"></table>
<p>Programs ask <a href="/mesh/capabilities">/mesh/capabilities</a>. Counters: <a href="/metrics">/metrics</a>.</p>
""",
    """const show = async () => {
  try {
    const [health, mesh] = await Promise.all(
      ["/healthz", "/mesh/capabilities?limit=1024"].map(async path => (await fetch(path)).json()));
    document.getElementById("error").textContent = "";
    document.getElementById("status").replaceChildren(
      row(["node", health.nodeId]), row(["members linked", health.members]),
      row(["coordinators linked", health.coordinators]), row(["version", health.version]));
    document.getElementById("clones").replaceChildren(
      ...(health.clones ?? []).map(each =>
        row([`node ${each.nodeId.slice(0, 16)}`, `at ${each.stays} and ${each.other}: ${each.detail}`])));
    document.getElementById("coordinators").replaceChildren(
      row(["coordinator", "agents", "model", "agents with it", "free slots", "load", "age, s"], "th"),
      ...mesh.coordinators.flatMap(each => {
        const models = Object.entries(each.modelAvailability);
        const head = [each.coordinatorId.slice(0, 16), each.agentCount];
        const age = Math.round(each.ageMs / 1000);
        if (!models.length) return [row([...head, "none", 0, 0, 0, age])];
        return models.map(([model, has]) =>
          row([...head, model, has.agentCount, has.freeSlots, Number(has.avgLoad.toFixed(1)), age]));
      }));
  } catch (error) {
    document.getElementById("error").textContent = `The coordinator does not answer: ${error.message}`;
  }
};
""",
)
