"""An AsyncAPI document as a consumer reads it: valid by the official meta-schema, every reference followed."""
import functools
import json

import jsonschema

from tests.peers import foreign


def _walk(value, path=()):
    yield path, value
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from _walk(member, (*path, name))


def _object(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a member occurs twice: {names}"
    return dict(pairs)


class Document:
    def __init__(self, text):
        self.root = json.loads(text, object_pairs_hook=_object)
        self.resolver = jsonschema.RefResolver("", self.root)

    def check(self):
        """By the meta-schema, and that no reference leads astray."""
        validator = jsonschema.Draft7Validator(foreign.asyncapi_meta_schema("3.0.0"))
        found = [f"{list(error.absolute_path)}: {error.message[:300]}" for error in validator.iter_errors(self.root)]
        assert not found, found[:3]
        for path, value in _walk(self.root):
            if isinstance(value, dict) and isinstance(value.get("$ref"), str):
                assert value["$ref"].startswith("#/"), f"{path}: the document is complete in itself"
                self.follow(value)

    def follow(self, value):
        return self.resolver.resolve(value["$ref"])[1] if "$ref" in value else value

    @functools.cached_property
    def channels(self):
        """By publisher and address."""
        return {(server, channel["address"]): channel for channel in self.root["channels"].values()
                for server in {reference["$ref"].split("/")[-1].split("-")[0] for reference in channel["servers"]}}

    def operations(self, channel):
        return [operation for operation in self.root["operations"].values() if self.follow(operation["channel"]) is channel]

    def mistakes(self, schema, value):
        return [error.message[:300] for error in jsonschema.Draft7Validator(schema, resolver=self.resolver).iter_errors(value)]

    def mistakes_of(self, message, content_type, headers, payload, key=None):
        """What a message of a channel says against a record; empty when it is one of that kind."""
        found = self.mistakes(message["payload"], payload) + self.mistakes(message.get("headers", {}), headers)
        if message["contentType"] != content_type:
            found.append(f"{content_type} is not {message['contentType']}")
        if "kafka" in message["bindings"]:
            found += self.mistakes(message["bindings"]["kafka"]["key"], key)
        return found
