"""Answers of the control listener are what docs/control.openapi.yaml says of them."""
import jsonschema
import yaml

from tests.e2e.bridge import ROOT

OPENAPI = yaml.safe_load((ROOT / "docs" / "control.openapi.yaml").read_text())


def check_against_openapi(name, document):
    """`name` of a schema of the components."""
    resolver = jsonschema.RefResolver("", OPENAPI)
    jsonschema.Draft202012Validator(OPENAPI["components"]["schemas"][name], resolver=resolver).validate(document)
