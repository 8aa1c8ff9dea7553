"""Checks an OpenAPI 3.1 document: the specification's own schema, and every example against the schema that it stands at.

Usage: check_openapi.py DOCUMENT. Prints what is wrong, a line each; the exit status says whether anything is.
"""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DOCUMENT = "urn:document"


def examples(node, path):
    """Yields each example in the document: where it is, the schema it must be valid by, and the value."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from examples(item, f"{path}/{index}")
    elif isinstance(node, dict):
        is_schema = "type" in node or "anyOf" in node or "$ref" in node or "pattern" in node
        if is_schema and isinstance(node.get("examples"), list):
            for value in node["examples"]:
                yield f"{path}/examples", {key: item for key, item in node.items() if key != "examples"}, value
        if isinstance(node.get("schema"), dict) and "example" in node:
            yield f"{path}/example", node["schema"], node["example"]
        for key, item in node.items():
            if key not in ("example", "examples"):
                yield from examples(item, f"{path}/{key}")


def absolute(schema):
    """The schema with its references made to lead into the document."""
    if isinstance(schema, list):
        return [absolute(item) for item in schema]
    if isinstance(schema, dict):
        return {
            key: DOCUMENT + item if key == "$ref" and isinstance(item, str) else absolute(item)
            for key, item in schema.items()
        }
    return schema


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    problems = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in OpenAPIV31SpecValidator(document).iter_errors()
    ]
    registry = Registry().with_resource(DOCUMENT, Resource.from_contents(document, DRAFT202012))
    count = 0
    for path, schema, value in examples(document, ""):
        count += 1
        validator = Draft202012Validator(
            absolute(schema), registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        problems += [f"{path}: {error.message}" for error in validator.iter_errors(value)]
    for problem in problems:
        print(problem)
    print(f"{count} examples")
    return 1 if problems else 0


sys.exit(main())
