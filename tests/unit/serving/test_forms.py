"""What the document of the interface says is what the server takes."""

import io
import json
from importlib import resources

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from starlette.datastructures import FormData, UploadFile

from asr.serving import transcription
from asr.serving.app import TRANSCRIPTIONS
from asr.serving.forms import FORMS, TIERS, job_of, name_of, transcription_of
from asr.serving.refusal import Refusal

DOCUMENT = json.loads((resources.files("asr.serving") / "openapi.json").read_text("utf8"))
POSTED = {path: each["post"] for path, each in DOCUMENT["paths"].items() if "post" in each}


def schema(path):
    return POSTED[path]["requestBody"]["content"]["multipart/form-data"]["schema"]


def form(**fields):
    return FormData([("file", UploadFile(io.BytesIO(), filename="a.wav")), *fields.items()])


def test_the_document_has_each_path_that_takes_recordings():
    assert {*POSTED} == {*FORMS, TRANSCRIPTIONS}


@pytest.mark.parametrize("path", sorted(FORMS))
def test_the_document_has_each_field(path):
    properties = schema(path)["properties"]
    assert properties.keys() == {"file", "response_format", *FORMS[path].fields}
    assert sorted(properties["response_format"]["enum"]) == sorted(FORMS[path].formats)
    assert properties["response_format"]["default"] == FORMS[path].formats[0]
    if "units" in properties:
        assert properties["units"]["enum"] == [*TIERS]


def test_the_document_has_the_forms_of_transcriptions():
    assert {*schema(TRANSCRIPTIONS)["properties"]["response_format"]["enum"]} == {*transcription.FORMATS}


@pytest.mark.parametrize("path", sorted(FORMS))
def test_each_choice_in_the_document_is_taken(path):
    for name, each in schema(path)["properties"].items():
        values = each.get("enum", []) + each.get("examples", [])
        values += {"boolean": ["true", "false"], "integer": ["0", "63"]}.get(each["type"], [])
        for value in values:
            needed = (
                {"text": "hello"}
                if path in ("/v1/align", "/v1/pronunciation") and name not in ("text", "phones")
                else {}
            )
            assert job_of(path, form(**needed, **{name: value})).options[name] is not None


def test_fields_are_taken_once():
    fields = FormData([*form().multi_items(), ("ipa", "true"), ("ipa", "true")])
    with pytest.raises(Refusal, match="twice"):
        job_of("/v1/phones", fields)


def test_granularities_are_taken_in_both_spellings():
    fields = [("timestamp_granularities", "word"), ("timestamp_granularities[]", "segment")]
    fields = FormData([*form(response_format="verbose_json").multi_items(), *fields])
    assert transcription_of(fields, "m", "english").options["granularities"] == ["word", "segment"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.wav", "a.wav"),
        ("a\nb\0.wav", "ab.wav"),
        ("\ud800.wav", "?.wav"),
        (None, "recording"),
        ("x" * 999, "x" * 200),
    ],
)
def test_names_can_be_printed(given, expected):
    assert name_of(UploadFile(io.BytesIO(), filename=given)) == expected
