#!/usr/bin/env python3
"""Judges Kubernetes manifests without a cluster: one fault a line on standard output, what was left out on standard error.

Usage: judge.py [FOLDER OF CRDs] < LINES, each a JSON object with `place` and `text`.

Custom resources are held against their CRDs, as the API server does with `fieldValidation: Strict`: a field that the
schema does not have is a fault. Kubernetes' own kinds are held against the models of the Python client, which are made
from Kubernetes' OpenAPI document (Debian: python3-kubernetes).
"""

import json
import pathlib
import re
import sys

import jsonschema
import yaml

try:
    from kubernetes.client import models
except ImportError:
    models = None

# RFC 1123 subdomain; those of RBAC may have colons (Kubernetes, "Object Names and IDs").
NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
RBAC_NAME = re.compile(r"^[^/%]+$")
META = {"type": "object", "required": ["name"]}
# Cluster-wide kinds that manifests of overlays use; all others have a namespace.
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "CiliumLoadBalancerIPPool", "CiliumL2AnnouncementPolicy"}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
SELECTOR = {"type": "object", "properties": {"matchLabels": LABELS}, "additionalProperties": False}
# Cilium's CRDs come with its operator; these are the fields that its documentation names (LB IPAM, L2 announcements).
CILIUM = {
    ("cilium.io/v2", "CiliumLoadBalancerIPPool"): {
        "blocks": {
            "type": "array", "minItems": 1,
            "items": {
                "type": "object", "additionalProperties": False,
                "properties": {"cidr": {"type": "string"}, "start": {"type": "string"}, "stop": {"type": "string"}},
                "oneOf": [{"required": ["cidr"]}, {"required": ["start"]}],
            },
        },
        "serviceSelector": SELECTOR, "disabled": {"type": "boolean"}, "allowFirstLastIPs": {"enum": ["Yes", "No"]},
    },
    ("cilium.io/v2alpha1", "CiliumL2AnnouncementPolicy"): {
        "loadBalancerIPs": {"type": "boolean"}, "externalIPs": {"type": "boolean"},
        "interfaces": {"type": "array", "items": {"type": "string"}},
        "nodeSelector": SELECTOR, "serviceSelector": SELECTOR,
    },
}
# MetalLB's CRDs come with its chart; these are the fields of config/crd/bases in its module, 0.16.2, which overlays use.
TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string"}}
METALLB = {
    ("metallb.io/v1beta1", "IPAddressPool"): {"addresses": TEXTS, "autoAssign": {"type": "boolean"}},
    ("metallb.io/v1beta1", "L2Advertisement"): {"interfaces": TEXTS, "ipAddressPools": TEXTS},
    ("metallb.io/v1beta1", "BGPAdvertisement"): {"ipAddressPools": TEXTS},
    ("metallb.io/v1beta2", "BGPPeer"): {
        "myASN": {"type": "integer", "minimum": 0, "maximum": 4294967295},
        "peerASN": {"type": "integer", "minimum": 0, "maximum": 4294967295},
        "peerAddress": {"type": "string"}, "peerPort": {"type": "integer", "minimum": 1, "maximum": 16384},
    },
}
KNOWN = {**CILIUM, **METALLB}
# Of Kubernetes' own kinds, where the client's models are absent: what an object has beside its metadata.
CORE = {
    ("v1", "Namespace"): set(), ("v1", "ServiceAccount"): set(), ("v1", "ConfigMap"): {"data"},
    ("v1", "Secret"): {"stringData"}, ("v1", "Service"): {"spec"}, ("apps/v1", "DaemonSet"): {"spec"},
    ("apps/v1", "Deployment"): {"spec"}, ("rbac.authorization.k8s.io/v1", "ClusterRole"): {"rules"},
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): {"roleRef", "subjects"},
}


def closed(schema):
    """A structural schema as JSON Schema in which unknown fields are faults."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) if key != "enum" else value for key, value in schema.items() if not key.startswith("x-")}
    if "properties" in schema and isinstance(schema["properties"], dict):
        made["properties"] = {key: closed(value) for key, value in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
        made.pop("anyOf", None)
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def crds(folder):
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text()):
            if not isinstance(crd, dict) or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                schema["properties"].update(apiVersion={"type": "string"}, kind={"type": "string"}, metadata=META)
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[key] = (schema, spec["scope"])
    return found


def conditional(schema):
    """Schemas inside anyOf, oneOf, allOf and not say a part only: their fields are not all there are."""
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word, []) if isinstance(schema, dict) else []:
            part.pop("additionalProperties", None)
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []:
        if isinstance(value, (dict, list)):
            conditional(value)
    return schema


def by_schema(document, schema):
    for error in jsonschema.Draft7Validator(conditional(schema)).iter_errors(document):
        yield f"{'.'.join(str(part) for part in error.absolute_path) or 'top'}: {error.message[:300]}"


def model_of(api_version, kind):
    version = api_version.rsplit("/", 1)[-1]
    return getattr(models, version[0].upper() + version[1:] + kind, None)


def by_model(value, kind, place):
    """Faults of `value`, which is to be of the client's type `kind`: `str`, `list[V1Pod]`, `dict(str, str)`."""
    if kind == "object" or value is None:
        return
    inner = re.match(r"^(?:list\[(.*)\]|dict\((?:[^,]*), (.*)\))$", kind)
    if inner and inner.group(1):
        if not isinstance(value, list):
            yield f"{place}: not a list"
            return
        for at, item in enumerate(value):
            yield from by_model(item, inner.group(1), f"{place}[{at}]")
    elif inner:
        if not isinstance(value, dict):
            yield f"{place}: not a mapping"
            return
        for key, item in value.items():
            yield from by_model(item, inner.group(2), f"{place}.{key}")
    elif kind in ("str", "int", "bool", "float"):
        wanted = {"str": str, "int": int, "bool": bool, "float": (int, float)}[kind]
        if not isinstance(value, wanted) or kind == "int" and isinstance(value, bool):
            yield f"{place}: {value!r} is not of type {kind}"
    elif hasattr(models, kind):
        yield from by_class(value, getattr(models, kind), place)


def by_class(value, model, place):
    if not isinstance(value, dict):
        yield f"{place}: not a mapping"
        return
    python = {json_name: name for name, json_name in model.attribute_map.items()}
    for key, item in value.items():
        if key not in python:
            yield f"{place}.{key}: no such field"
        else:
            yield from by_model(item, model.openapi_types[python[key]], f"{place}.{key}")
    # The client refuses to make an object without what it must have, and any value does for that.
    try:
        model(**{python[key]: item for key, item in value.items() if key in python and item is not None})
    except ValueError as error:
        yield f"{place}: {error}"


def inner_yaml(document):
    """YAML inside YAML: values of charts."""
    spec, kind = document.get("spec") or {}, document["kind"]
    if kind in ("HelmChart", "HelmChartConfig") and "valuesContent" in spec:
        yield spec["valuesContent"]
    if kind == "ConfigMap":
        yield from (text for name, text in (document.get("data") or {}).items() if name.endswith(".yaml"))


def faults(document, schemas):
    if not isinstance(document, dict):
        yield "not a mapping"
        return
    api_version, kind, metadata = document.get("apiVersion"), document.get("kind"), document.get("metadata") or {}
    if not isinstance(api_version, str) or not isinstance(kind, str):
        yield "no apiVersion and kind"
        return
    name = metadata.get("name")
    pattern = RBAC_NAME if api_version.startswith("rbac.") else NAME
    if not isinstance(name, str) or not pattern.match(name) or len(name) > 253:
        yield f"metadata.name: {name!r} is not a name"
    if ("namespace" in metadata) == (kind in CLUSTER_WIDE):
        yield f"metadata.namespace: {metadata.get('namespace')!r} of a {kind}"
    key = (api_version, kind)
    if key in KNOWN:
        schema = {
            "type": "object", "required": ["spec"], "additionalProperties": False,
            "properties": {"apiVersion": {}, "kind": {}, "metadata": META,
                           "spec": {"type": "object", "additionalProperties": False, "properties": KNOWN[key]}},
        }
        yield from by_schema(document, schema)
    elif key in CORE:
        yield from (f"{field}: missing" for field in CORE[key] if field not in document)
        if models:
            yield from by_class(document, model_of(*key), kind)
    elif schemas is None:
        print(f"SKIPPED: no CRDs to hold {kind} against", file=sys.stderr)
    elif key in schemas:
        schema, scope = schemas[key]
        if (scope == "Namespaced") != ("namespace" in metadata):
            yield f"metadata.namespace: {kind} is {scope}"
        yield from by_schema(document, schema)
    else:
        yield f"{api_version} {kind} is not among the schemas"
    for text in inner_yaml(document):
        try:
            if not isinstance(yaml.safe_load(text), dict):
                yield "the YAML in it is not a mapping"
        except yaml.YAMLError as error:
            yield f"the YAML in it: {error}"


class Strict(yaml.SafeLoader):
    """A key that is there twice is a fault; PyYAML would take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len(set(map(str, keys))):
            raise yaml.YAMLError(f"a key is there twice, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def main():
    schemas = crds(sys.argv[1]) if len(sys.argv) > 1 else None
    if models is None:
        print("SKIPPED: no models of Kubernetes' own kinds (python3-kubernetes)", file=sys.stderr)
    for line in sys.stdin:
        given = json.loads(line)
        try:
            documents = [one for one in yaml.load_all(given["text"], Loader=Strict) if one is not None]
        except yaml.YAMLError as error:
            print(f"{given['place']}: {str(error)!r}")
            continue
        if not documents:
            print(f"{given['place']}: nothing is in it")
        for document in documents:
            for fault in faults(document, schemas):
                name = f"{document.get('kind')} {(document.get('metadata') or {}).get('name')}" if isinstance(document, dict) else ""
                print(f"{given['place']}: {name}: {fault}")


if __name__ == "__main__":
    main()
