"""The check of the locks: planted vulnerabilities and licences are found, silence is not taken for none."""

import datetime

import pytest
import yaml
from audit import licences, vulnerabilities
from audit.__main__ import POLICY, judge
from audit.locked import packages, rounds

PLANTED = {("planted", "1.5"): ["data"], ("other", "2.0"): ["torch"]}
METADATA = {package: {"license_expression": "MIT"} for package in PLANTED}
RECORD = {
    "id": "PYSEC-1",
    "modified": f"{datetime.date.today()}T00:00:00Z",
    "affected": [
        {"package": {"name": "planted", "ecosystem": "PyPI"},
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.2"}, {"fixed": "1.6"}]}]}
    ],
}  # fmt: skip


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "vulns" / "planted"
    folder.mkdir(parents=True)
    (folder / "PYSEC-1.yaml").write_text(yaml.safe_dump(RECORD))
    (folder / "PYSEC-2.yaml").write_text(yaml.safe_dump(RECORD | {"id": "PYSEC-2", "withdrawn": "2026"}))
    return tmp_path


def test_a_vulnerable_version_is_found_in_the_copy(copy):
    answer = vulnerabilities.from_copy(copy, PLANTED)
    assert answer.found == {("planted", "1.5"): ["PYSEC-1"]}
    assert str(datetime.date.today()) in answer.database
    _, bad, unchecked = judge(PLANTED, [answer], METADATA)
    assert bad == ["vulnerable: planted 1.5 (data): PYSEC-1"]
    assert unchecked == []


def test_an_old_copy_is_no_check(copy):
    for file in copy.glob("vulns/*/*"):
        file.write_text(yaml.safe_dump(RECORD | {"modified": "2020-01-02T00:00:00Z"}))
    answer = vulnerabilities.from_copy(copy, PLANTED)
    assert ("planted", "1.5") in answer.found
    assert judge(PLANTED, [answer], METADATA)[2] == [
        "vulnerabilities of 2 of 2 packages were NOT checked by present records"
    ]


@pytest.mark.parametrize(
    ("version", "inside"), [("1.1", False), ("1.2", True), ("1.6", False), ("2", False), ("what", False)]
)
def test_ranges_end_before_the_repair(version, inside):
    assert vulnerabilities.affects(RECORD["affected"][0], version) == inside


def test_a_listed_version_needs_no_range():
    assert vulnerabilities.affects({"versions": ["1.0"]}, "1.0")
    assert not vulnerabilities.affects({"versions": ["1.0"]}, "1.1")


def test_what_a_service_skipped_was_not_checked():
    answer = vulnerabilities.Answer("a mirror")
    skipped = {"name": "planted", "skip_reason": "Dependency not found"}
    known = {"name": "other", "version": "2.0", "vulns": [{"id": "GHSA-1"}]}
    vulnerabilities.read_report({"dependencies": [skipped, known]}, answer)
    assert answer.checked == {("other", "2.0")}
    lines, bad, unchecked = judge(PLANTED, [answer], METADATA)
    assert bad == ["vulnerable: other 2.0 (torch): GHSA-1"]
    assert unchecked == ["vulnerabilities of 1 of 2 packages were NOT checked by present records"]
    assert f"- **{unchecked[0]}**" in lines


def test_a_known_vulnerability_may_stay_in_the_locks_that_the_policy_names():
    answer = vulnerabilities.Answer("x", set(PLANTED), {("planted", "1.5"): ["PYSEC-1"]})
    policy = POLICY | {"vulnerable": [{"locks": ["data"], "reason": "never reached"}]}
    lines, bad, _ = judge(PLANTED, [answer], METADATA, policy)
    assert bad == []
    assert "| planted 1.5 | data | PYSEC-1 | never reached |" in lines
    assert judge({("planted", "1.5"): ["data", "torch"]}, [answer], METADATA, policy)[1]


@pytest.mark.parametrize(
    ("about", "text", "fine"),
    [
        ({"license_expression": "MIT AND (GPL-3.0 OR Apache-2.0)"}, "MIT AND (GPL-3.0 OR Apache-2.0)", True),
        ({"license_expression": "MIT AND GPL-3.0"}, "MIT AND GPL-3.0", False),
        ({"classifier": ["License :: OSI Approved :: BSD License"]}, "BSD License", True),
        (
            {"classifier": ["License :: OSI Approved"], "license": "MIT License\n\nCopyright"},
            "MIT License",
            True,
        ),
        ({"classifier": ["License :: OSI Approved :: ISC License (ISCL)"]}, "ISC License (ISCL)", True),
        ({"license": "All rights reserved"}, "All rights reserved", False),
        ({}, "not stated", False),
    ],
)
def test_licences(about, text, fine):
    assert licences.licence(about) == text
    assert licences.allowed(text, POLICY["allowed"]) == fine


def test_a_licence_off_the_list_and_one_not_read_are_told():
    answer = vulnerabilities.Answer("x", set(PLANTED))
    metadata = {("planted", "1.5"): {"license_expression": "AGPL-3.0"}}
    _, bad, unchecked = judge(PLANTED, [answer], metadata)
    assert bad == ["licence: planted 1.5: AGPL-3.0"]
    assert unchecked == ["licences NOT read: other==2.0"]


def test_every_lock_is_looked_through_and_no_round_has_a_name_twice():
    found = packages()
    assert {"workflow", "data", "torch", "llava_official"} <= {
        lock for locks in found.values() for lock in locks
    }
    parts = rounds(found)
    assert sorted(package for part in parts for package in part) == sorted(found)
    assert all(len({name for name, _ in part}) == len(part) for part in parts)
