"""Holds answers of the control listener against their description."""
import pathlib

import jsonschema
import yaml

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "control.openapi.yaml"


def check_against_openapi(name, document):
    """The answer is what docs/control.openapi.yaml says of it."""
    openapi = yaml.safe_load(DOCUMENT.read_text())
    resolver = jsonschema.RefResolver("", openapi)
    jsonschema.Draft202012Validator(openapi["components"]["schemas"][name], resolver=resolver).validate(document)
