"""`strata schema`: what editors check a strata.yaml with."""

import json

import yaml


def test_schema_is_json_schema(strata):
    _, printed, _ = strata("schema")
    assert json.loads(printed)["properties"]["models"]


def test_the_schema_knows_every_key_of_the_demo_s_file(strata, pytestconfig):
    schema = json.loads(strata("schema")[1])
    demo = yaml.safe_load((pytestconfig.rootpath / "strata.yaml").read_text())
    assert set(demo) <= set(schema["properties"])
    assert schema["additionalProperties"] is False
