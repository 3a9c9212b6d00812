"""Reads metrics as Prometheus does, by its own client's parser, and prints the samples as JSON: name, labels, value."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = list(text_string_to_metric_families(sys.stdin.read()))
names = [family.name for family in families]
assert len(names) == len(set(names)), "a family is there twice"
for family in families:
    assert family.documentation, f"{family.name} has no help"
    assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is {family.type}"
    seen = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    assert len(seen) == len(set(seen)), f"{family.name} has a sample twice"


def written(name):
    """The parser ends the name of every counter in `_total`, as OpenMetrics has it; Triton's have no such end."""
    return name.removesuffix("_total") if name.startswith("nv_") else name


samples = [sample for family in families for sample in family.samples]
print(json.dumps([[written(sample.name), sample.labels, sample.value] for sample in samples]))
