"""Reads manifests from standard input, validates them, and prints them as one JSON list.

Kinds of Kubernetes are validated strictly against the schemas of several versions, kinds of Flux
against the schemas in flux/.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

VERSIONS = ["1.28", "1.32", kubernetes_validate.latest_version()]
FLUX = pathlib.Path(__file__).parent / "flux"

documents = [document for document in yaml.safe_load_all(sys.stdin) if document is not None]
for document in documents:
    name = f"{document['kind']} {document['metadata']['name']}"
    try:
        if ".fluxcd.io/" in document["apiVersion"]:
            jsonschema.validate(document, json.loads((FLUX / f"{document['kind'].lower()}.json").read_text()))
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        sys.exit(f"{name}: {error.message} at {list(error.path)}")
json.dump(documents, sys.stdout)
