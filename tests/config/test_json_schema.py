"""The JSON Schema says the same as the loader."""

from __future__ import annotations

import json
from typing import Any

from xproxy.config.json_schema import json_schema
from xproxy.registry import Registry


def _schema(registry: Registry) -> Any:  # Any: JSON
    return json.loads(json.dumps(json_schema(registry)))


def test_top(registry: Registry) -> None:
    schema = _schema(registry)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["listeners"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["listeners"]["minItems"] == 1
    assert schema["$defs"]["codec"] == {"enum": ["bolt", "http1", "opaque"]}


def test_fields(registry: Registry) -> None:
    definitions = _schema(registry)["$defs"]
    listener = definitions["ListenerConfig"]
    assert set(listener["required"]) == {"name", "address"}
    backlog = listener["properties"]["backlog"]
    assert (backlog["minimum"], backlog["maximum"], backlog["default"]) == (1, 65535, 1024)
    assert listener["properties"]["name"]["minLength"] == 1
    assert definitions["MatchConfig"]["properties"]["port"]["maximum"] == 65535
    route = definitions["RouteConfig"]["properties"]
    assert "default" not in route["timeout"]
    assert definitions["ClusterConfig"]["properties"]["connect_timeout"]["default"] == "5s"
    assert route["timeout"]["description"].startswith("From the end of the request")
    assert route["hosts"]["anyOf"][0] == {"type": "string"}
    assert definitions["MatchConfig"]["properties"]["service"]["anyOf"][0] == {"type": "string"}


def test_filters(registry: Registry) -> None:
    plain, *forms = _schema(registry)["$defs"]["filter"]["anyOf"]
    assert plain == {"enum": ["again", "nested", "odd"]}, "those that need no option"
    by_name = {form["properties"]["name"]["const"]: form for form in forms}
    assert list(by_name) == ["again", "answer", "nested", "odd"]
    assert by_name["answer"]["required"] == ["name", "status"]
    again = by_name["again"]["properties"]
    assert again["attempts"]["minimum"] == 1
    assert again["on"]["anyOf"][0] == {"enum": ["reset", "connect-failure"]}
    assert "now" not in again


def test_every_reference_leads_somewhere(registry: Registry) -> None:
    schema = _schema(registry)

    def walk(value: Any) -> None:  # Any: JSON
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].removeprefix("#/$defs/") in schema["$defs"]
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(schema)
