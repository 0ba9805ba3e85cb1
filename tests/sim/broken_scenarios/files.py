"""Mistakes in a file as such: its YAML, its keys, the types and ranges of its values."""

from __future__ import annotations

from tests.sim.broken_scenarios.base import BASE, broken

CASES = [
    # -- the file as YAML
    broken("tab", "  count: 3", "\tcount: 3", 7, "a tab where YAML wants spaces", "indent with spaces"),
    broken(
        "colon in a value",
        "name: tiny",
        "name: tiny: world",
        1,
        "a `:` where no key can stand",
        "check the indentation, or quote the text",
    ),
    broken(
        "no colon",
        "duration_s: 60",
        "duration_s 60",
        3,
        "a line without `:` where a key is expected",
        "write `key: value`",
    ),
    broken(
        "indentation",
        "  device: server",
        "   device: server",
        20,
        "a `:` where no key can stand",
        "check the indentation, or quote the text",
    ),
    broken(
        "open bracket",
        "{phone_mid: 1}\n",
        "{phone_mid: 1\n",
        8,
        "a mapping in braces has no end",
        "close it with `}`, commas between its elements",
    ),
    broken(
        "open quote",
        "name: tiny",
        'name: "tiny',
        15,
        "this does not fit the lines above",
        "check its indentation, and quotes and brackets above",
    ),
    broken(
        "bad character", "name: tiny", "name: @tiny", 1, "a character that no value can start with", "quote the text"
    ),
    broken(
        "control character",
        "name: tiny",
        "name: ti\x07ny",
        1,
        "the character U+0007 is not allowed in YAML",
        "remove it",
    ),
    broken(
        "unknown escape", "name: tiny", 'name: "\\q"', 1, "found unknown escape character 'q'", "mend the YAML here"
    ),
    broken(
        "key twice",
        "  network: wifi",
        "  network: wifi\n  count: 4",
        12,
        "phones.count is here a second time",
        "the first is on line 7; keep one",
    ),
    broken(
        "alias",
        "  network: wifi",
        "  network: *lan",
        11,
        "`*lan` is an alias",
        "write the value out; aliases are not supported",
    ),
    broken(
        "anchor",
        "  network: wifi",
        "  network: &net wifi",
        11,
        "`&net` is an anchor",
        "write the value out; anchors are not supported",
    ),
    broken(
        "merge key",
        "  network: wifi",
        "  <<: {network: wifi}",
        11,
        "`<<` is a merge key",
        "write the values out; merge keys are not supported",
    ),
    broken(
        "tag", "duration_s: 60", "duration_s: !!str 60", 2, "`!!str` is a tag", "remove it; the key decides the type"
    ),
    broken(
        "two documents",
        "catalog: qwen2.5-coder",
        "---\ncatalog: qwen2.5-coder",
        3,
        "a second document begins here",
        "keep one document in a file",
    ),
    broken("list as key", "name: tiny", "[name]: tiny", 1, "a key is a list or a mapping", "write keys as plain text"),
    broken(
        "not a number", "duration_s: 60", "duration_s: .nan", 2, ".nan is no finite number", "write a finite number"
    ),
    broken(
        "huge number", "duration_s: 60", "duration_s: 1e999", 2, '"1e999" is too large', "write a number below 1e308"
    ),
    broken(
        "huge integer",
        "duration_s: 60",
        "duration_s: 99999999999999999999",
        2,
        '"99999999999999999999" is too large',
        "a whole number fits 64 bits",
    ),
    broken(
        "deep nesting",
        "name: tiny",
        f"name: {'[' * 40}{']' * 40}",
        1,
        "nested deeper than 32 levels",
        "flatten the file",
    ),
    broken(
        "a list",
        BASE,
        "- name: tiny\n",
        1,
        "the file is a list",
        "it is a mapping with name, description, duration_s, rng_seed, …",
    ),
    broken(
        "a word",
        BASE,
        "tiny\n",
        1,
        'the file is "tiny"',
        "it is a mapping with name, description, duration_s, rng_seed, …",
    ),
    broken(
        "empty",
        BASE,
        "# nothing\n",
        1,
        "the file is empty",
        "it is a mapping with name, description, duration_s, rng_seed, …",
    ),
    # -- keys and types
    broken("unknown key", "  count: 3", "  cuont: 3", 7, "unknown key phones.cuont", "did you mean count or conduct?"),
    broken(
        "unknown top key",
        "duration_s: 60",
        "duration_s: 60\nspeed: fast",
        3,
        "unknown key speed",
        (
            "the key is one of name, description, duration_s, rng_seed, tick_us, wire, checkers, "
            "sample_interval_s, record_pieces, catalog, networks, devices and 14 more"
        ),
    ),
    broken(
        "missing key", "duration_s: 60\n", "", 1, "duration_s is missing", "a duration in s is a number, more than 0"
    ),
    broken(
        "missing deep key",
        "      prompt_bytes: {mean: 100, max: 1000}\n",
        "",
        25,
        "workload.tasks[0].prompt_bytes is missing",
        "it is a mapping with mean, max",
    ),
    broken(
        "missing part",
        "{mean: 10, max: 100}",
        "{mean: 10}",
        28,
        "workload.tasks[0].output_tokens.max is missing",
        "a largest size is a whole number, 1 or more",
    ),
    broken("negative count", "  count: 3", "  count: -3", 7, "phones.count is -3", "a count is 0 or more"),
    broken(
        "text for a count",
        "  count: 3",
        "  count: many",
        7,
        'phones.count is "many"',
        "a count is a whole number, 0 or more",
    ),
    broken(
        "fraction for a count",
        "  count: 3",
        "  count: 2.5",
        7,
        "phones.count is 2.5",
        "a count is a whole number, 0 or more",
    ),
    broken(
        "nothing for a count",
        "  count: 3",
        "  count:",
        7,
        "phones.count is empty",
        "a count is a whole number, 0 or more",
    ),
    broken("too many", "  count: 3", "  count: 2000000", 7, "phones.count is 2000000", "a count is at most 1000000"),
    broken("zero duration", "duration_s: 60", "duration_s: 0", 2, "duration_s is 0", "a duration in s is more than 0"),
    broken(
        "name with a slash",
        "name: tiny",
        "name: ../tiny",
        1,
        'name is "../tiny"',
        "a name is 1 to 64 lower-case letters, digits, `_` and `-`, a letter or digit first",
    ),
    broken("number for a name", "name: tiny", "name: 7", 1, "name is 7", "a name is text in quotes"),
    broken(
        "yes is no boolean",
        "duration_s: 60",
        "duration_s: 60\ncheckers: yes",
        3,
        'checkers is "yes"',
        "it is true or false",
    ),
    broken(
        "unknown choice",
        "duration_s: 60",
        "duration_s: 60\nwire: fast",
        3,
        'wire is "fast"',
        "it is one of reference, encoded",
    ),
    broken(
        "probability above one",
        "qwen2.5-coder-1.5b: 0.5}",
        "qwen2.5-coder-1.5b: 50}",
        9,
        "phones.installed.qwen2.5-coder-1.5b is 50",
        "a probability is at most 1",
    ),
    broken(
        "negative weight",
        "  devices: {phone_mid: 1}",
        "  devices: {phone_mid: -1}",
        8,
        "phones.devices.phone_mid is -1",
        "a weight is 0 or more",
    ),
    broken(
        "list for a mapping",
        "  devices: {phone_mid: 1}",
        "  devices: [phone_mid]",
        8,
        "phones.devices is a list",
        "it is a mapping of `key: value`",
    ),
    broken(
        "text for a list",
        "  tasks:\n    - name: chat",
        "  tasks: chat\n  more:\n    - name: chat",
        24,
        'workload.tasks is "chat"',
        "it is a list",
    ),
    broken(
        "text as a key of sizes",
        "{0: 1, 7: 1}",
        "{small: 1}",
        29,
        'workload.tasks[0].min_param_size has the key "small"',
        "a size in billions of parameters is a number, 0 or more",
    ),
    broken(
        "radio",
        "devices:\n",
        "radio: {area_m: [10]}\ndevices:\n",
        4,
        "radio.area_m has 1 elements",
        "it is a list of 2, each a number, more than 0",
    ),
    broken(
        "negative area",
        "devices:\n",
        "radio: {area_m: [10, -4]}\ndevices:\n",
        4,
        "radio.area_m[1] is -4",
        "a length in m is more than 0",
    ),
    broken(
        "negative seed", "duration_s: 60", "duration_s: 60\nrng_seed: -1", 3, "rng_seed is -1", "a seed is 0 or more"
    ),
]
