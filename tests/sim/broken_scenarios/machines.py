"""Mistakes in what a world consists of: its catalog, machines, networks and models."""

from __future__ import annotations

from tests.sim.broken_scenarios.base import BASE, ENTRY, broken, flag

OTHER_PLATFORM = f"""\
name: tiny
duration_s: 60
{ENTRY.format(sha256="0" * 64).replace("[ios, node]", "[node]")}
phones:
  count: 3
  devices: {{phone_mid: 1}}
  network: wifi
  installed: {{tiny: 1}}
"""

CASES = [
    # -- catalog
    broken(
        "unknown catalog",
        "catalog: qwen2.5-coder",
        "catalog: qwen2.5",
        3,
        'there is no catalog "qwen2.5"',
        "did you mean qwen2.5-coder?",
    ),
    broken(
        "missing catalog file",
        "catalog: qwen2.5-coder",
        "catalog: models.yaml",
        3,
        'there is no catalog "models.yaml"',
        "packaged is qwen2.5-coder",
    ),
    broken(
        "empty catalog", "catalog: qwen2.5-coder", "catalog: []", 3, "the catalog is empty", "list at least one model"
    ),
    broken(
        "bad digest",
        "catalog: qwen2.5-coder\n",
        ENTRY.format(sha256="abc"),
        9,
        'catalog[0].sha256 is "abc"',
        "it is 64 lower-case hexadecimal digits",
    ),
    broken(
        "bad model name",
        "catalog: qwen2.5-coder\n",
        ENTRY.format(sha256="0" * 64).replace("modelId: tiny", "modelId: Tiny B"),
        4,
        'catalog[0].modelId is "Tiny B"',
        "it is lower-case letters, digits, `.`, `_` and `-`, with at most one `/` and one `:tag`",
    ),
    broken(
        "one name, two files",
        "catalog: qwen2.5-coder\n",
        ENTRY.format(sha256="0" * 64) + ENTRY.format(sha256="1" * 64).removeprefix("catalog:\n"),
        12,
        "tiny on ios is claimed by two files",
        "rename one, or remove the alias",
    ),
    broken(
        "no platform",
        "catalog: qwen2.5-coder\n",
        ENTRY.format(sha256="0" * 64).replace("[ios, node]", "[]"),
        11,
        "tiny runs on no platform",
        "name at least one of ios, node",
    ),
    # -- machines and networks
    broken(
        "unknown device",
        "  devices: {phone_mid: 1}",
        "  devices: {phone_mdi: 1}",
        8,
        "there is no device phone_mdi",
        "did you mean phone_mid or phone_high?",
    ),
    broken(
        "unknown network",
        "  network: wifi",
        "  network: 5g",
        11,
        "there is no network 5g",
        "a network is one of wifi, lan, wan",
    ),
    broken(
        "unknown like",
        "devices:\n",
        "devices:\n  pixel: {like: phone}\n",
        5,
        'devices.pixel.like is "phone"',
        "did you mean phone_mid or phone_low?",
    ),
    broken(
        "incomplete device",
        "devices:\n",
        "devices:\n  pixel: {device_type: phone}\n",
        5,
        "devices.pixel.platform is missing",
        "it is one of ios, node",
    ),
    broken(
        "warm slower than cold",
        "{load_failure_pct: 1}",
        "{load_warm_gb_per_s: 1}",
        5,
        "devices.phone_mid.load_warm_gb_per_s is 1, load_cold_gb_per_s 1.2",
        "a warm load is no slower than a cold one",
    ),
    broken(
        "battery upside down",
        "{load_failure_pct: 1}",
        "{battery_pct: [90, 20]}",
        5,
        "devices.phone_mid.battery_pct is [90, 20]",
        "write the lower charge first",
    ),
    broken(
        "agent's device for phones",
        "  devices: {phone_mid: 1}",
        "  devices: {laptop: 1}",
        8,
        "phones run llama.cpp, and laptop is a device for Ollama",
        "use one of phone_mid, phone_low, phone_high",
    ),
    broken(
        "zero weights",
        "  devices: {phone_mid: 1}",
        "  devices: {phone_mid: 0}",
        8,
        "the weights of phones.devices are all 0",
        "give at least one a weight above 0",
    ),
    broken(
        "no devices",
        "  devices: {phone_mid: 1}\n",
        "",
        6,
        "phones are 3 nodes without devices",
        "write phones.devices: {profile: weight}",
    ),
    broken(
        "no network",
        "  network: wifi\n",
        "",
        6,
        "phones are 3 nodes without a network",
        "the network is one of wifi, lan, wan",
    ),
    broken(
        "no coordinator device",
        "  device: server\n",
        "",
        18,
        "coordinators are 2 nodes without a device",
        "the device is one of phone_mid, phone_low, phone_high, laptop, workstation, server",
    ),
    broken(
        "no federation network",
        "  federation_network: wan\n",
        "",
        18,
        "coordinators are 2 nodes without a federation_network",
        "the federation_network is one of wifi, lan, wan",
    ),
    broken(
        "zero latency",
        "devices:\n",
        "networks: {lan: {latency_ms: 0}}\ndevices:\n",
        4,
        "networks.lan.latency_ms is 0",
        "a latency in ms is 0.001 or more",
    ),
    # -- models
    broken(
        "unknown model",
        "  active: {qwen2.5-coder-0.5b: 1}",
        "  active: {qwen2.5-coder-05b: 1}",
        10,
        "qwen2.5-coder-05b is not in the catalog",
        "did you mean qwen2.5-coder-0.5b or qwen2.5-coder-1.5b?",
    ),
    broken(
        "other platform's model", BASE, OTHER_PLATFORM, 17, "tiny has no file for llama.cpp", "add one to the catalog"
    ),
    broken(
        "one file by two names",
        "qwen2.5-coder-1.5b: 0.5}",
        '"qwen2.5-coder:0.5b": 0.5}',
        9,
        "phones.installed names qwen2.5-coder-0.5b twice",
        "qwen2.5-coder:0.5b is the same file; keep one name",
    ),
    broken(
        "active, not installed",
        "  active: {qwen2.5-coder-0.5b: 1}",
        "  active: {qwen2.5-coder-3b: 1}",
        10,
        "phones.active has qwen2.5-coder-3b, which no node has installed",
        "give it a probability above 0 in phones.installed",
    ),
    broken(
        "active never installed",
        "{qwen2.5-coder-0.5b: 1, ",
        "{qwen2.5-coder-0.5b: 0, ",
        10,
        "phones.active has qwen2.5-coder-0.5b, which no node has installed",
        "give it a probability above 0 in phones.installed",
    ),
    broken(
        "active fits nothing",
        "qwen2.5-coder-1.5b: 0.5}\n  active: {",
        "qwen2.5-coder-14b: 0.5}\n  active: {qwen2.5-coder-14b: 1, ",
        10,
        "phones.active has qwen2.5-coder-14b, which fits none of phone_mid",
        "choose a smaller model, or a device with more memory",
    ),
    broken(
        "nothing fits",
        "{qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 0.5}\n  active: {qwen2.5-coder-0.5b: 1}",
        "{qwen2.5-coder-7b: 1}",
        9,
        "no model that phones have installed fits phone_mid, which has 3072 MB for a model",
        "install a smaller model, or leave the device out",
    ),
    broken(
        "zero active weights",
        "  active: {qwen2.5-coder-0.5b: 1}",
        "  active: {qwen2.5-coder-0.5b: 0}",
        10,
        "the weights of phones.active are all 0",
        "give at least one a weight above 0",
    ),
    flag(
        "a campus too small",
        "coordinators.federation={topology: campuses, degree: 4}",
        "coordinators.count=11",
        problem="11 coordinators are no whole number of campuses of 4",
        hint="use a multiple of coordinators.federation.degree",
        label="--set coordinators.count=11",
    ),
    flag(
        "too few neighbours",
        "coordinators.federation={degree: 1}",
        problem="coordinators.federation.degree is 1",
        hint="a number of neighbours is 2 or more",
        label="--set coordinators.federation={degree: 1}",
    ),
    # -- radio
    flag(
        "unknown operating system",
        "devices.laptop.systems={beos: 1}",
        problem="there is no system beos",
        hint="a system is one of android, ios, desktop",
        label="--set devices.laptop.systems={beos: 1}",
    ),
    flag(
        "no operating system",
        "devices.laptop.systems={ios: 0}",
        problem="laptop has no operating system",
        hint="give one a weight above 0",
        label="--set devices.laptop.systems={ios: 0}",
    ),
    flag(
        "unknown PHY",
        "systems.ios.phy=5M",
        problem='systems.ios.phy is "5M"',
        hint="it is one of 2M, 1M, coded_s2, coded_s8",
        label="--set systems.ios.phy=5M",
    ),
    flag(
        "MTU too small",
        "systems.ios.mtu=22",
        problem="systems.ios.mtu is 22",
        hint="a size in bytes is 23 or more",
        label="--set systems.ios.mtu=22",
    ),
    flag(
        "payload too large",
        "systems.ios.data_bytes=252",
        problem="systems.ios.data_bytes is 252",
        hint="a size in bytes is at most 251",
        label="--set systems.ios.data_bytes=252",
    ),
    flag(
        "no packets",
        "systems.ios.packets_max=0",
        problem="systems.ios.packets_max is 0",
        hint="a count is 1 or more",
        label="--set systems.ios.packets_max=0",
    ),
    flag(
        "interval too short",
        "radio.ble.interval_ms=5",
        problem="radio.ble.interval_ms is 5",
        hint="an interval in ms is 7.5 or more",
        label="--set radio.ble.interval_ms=5",
    ),
    flag(
        "least interval too long",
        "systems.ios.interval_ms_min=5000",
        problem="systems.ios.interval_ms_min is 5000",
        hint="an interval in ms is at most 4000",
        label="--set systems.ios.interval_ms_min=5000",
    ),
    flag(
        "step of intervals",
        "systems.ios.interval_step_ms=1",
        problem="systems.ios.interval_step_ms is 1",
        hint="a step in ms is 1.25 or more",
        label="--set systems.ios.interval_step_ms=1",
    ),
    flag(
        "no links",
        "systems.ios.links_max=0",
        problem="systems.ios.links_max is 0",
        hint="a number of links is 1 or more",
        label="--set systems.ios.links_max=0",
    ),
    flag(
        "all packets lost",
        "radio.ble.packet_loss_pct=91",
        problem="radio.ble.packet_loss_pct is 91",
        hint="a share in percent is at most 90",
        label="--set radio.ble.packet_loss_pct=91",
    ),
    flag(
        "no rate",
        "radio.ble.rate_kbit_per_s=0",
        problem="radio.ble.rate_kbit_per_s is 0",
        hint="a rate in kbit/s is 0.1 or more",
        label="--set radio.ble.rate_kbit_per_s=0",
    ),
    flag(
        "advertises too often",
        "radio.ble.advertising_interval_ms=10",
        problem="radio.ble.advertising_interval_ms is 10",
        hint="an interval in ms is 20 or more",
        label="--set radio.ble.advertising_interval_ms=10",
    ),
]
