"""What two targets differ in."""

from __future__ import annotations

from optc.targets import Difference, differences, load_target, target_names


def test_a_target_equals_itself() -> None:
    for name in target_names():
        assert differences(load_target(name), load_target(name)) == ()


def test_values_stand_side_by_side_without_their_sources() -> None:
    found = differences(load_target("clx"), load_target("spr"))
    assert Difference("memory.channels", "6", "8") in found
    assert Difference("isa.flags.amx_tile", "-", "yes") in found
    assert Difference("compute.ops_per_cycle.int8_amx", "-", "2048") in found
    assert Difference("memory.mts_2dpc", "unknown", "4400") in found
    assert Difference("software[amx, Linux on the machine itself]", "-", "5.16") in found
    assert not [
        entry for entry in found if "source" in entry.path or "isa.flags.avx2" in entry.path
    ]


def test_the_same_difference_is_seen_from_both_sides() -> None:
    there = differences(load_target("icx"), load_target("cpx"))
    back = differences(load_target("cpx"), load_target("icx"))
    assert {(d.path, d.first, d.second) for d in there} == {
        (d.path, d.second, d.first) for d in back
    }


def test_advice_is_compared_by_topic() -> None:
    found = {entry.path: entry for entry in differences(load_target("icx"), load_target("spr"))}
    assert found["advice[turbo]"].first == "enabled in the BIOS (Ice Lake)"
    assert found["advice[turbo]"].second == "disabled in the BIOS (Sapphire Rapids)"
