"""``xproxy schema``."""

from __future__ import annotations

import json

from click.testing import CliRunner

from xproxy.cli.main import main


def test_schema_is_json_with_the_installed_filters() -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    names = [
        form["properties"]["name"]["const"]
        for form in schema["$defs"]["filter"]["anyOf"]
        if "properties" in form
    ]
    assert {"access_log", "retry", "direct_response"} <= set(names)
