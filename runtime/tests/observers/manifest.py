"""Prints the documents of a Kubernetes manifest as JSON."""

import json
import sys

import yaml

print(json.dumps(list(yaml.safe_load_all(sys.stdin))))
