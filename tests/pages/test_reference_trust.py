from sbikit.pages.trust import WorstReading, reasons, worst_readings
from sbikit.roles.trust import Reading, Trust


def trust(value, complaint=""):
    readings = (Reading("ESS", value, 400, "lower"), Reading("gradients", 1000.0))
    return Trust(not complaint, readings, (complaint,) if complaint else ())


def test_the_worst_readings_stand_beside_what_is_wanted():
    found = worst_readings([trust(500.0), trust(None, "a"), trust(700.0)])
    assert (found.trusted, found.observations) == (2, 3)
    assert found.rows == [
        WorstReading("ESS", "500", "not finite", "at least 400"),
        WorstReading("gradients", "1,000", "1,000", ""),
    ]


def test_a_sampler_without_readings_has_no_table():
    assert worst_readings([Trust(), Trust()]) is None
    assert reasons([Trust(False)]) == ""


def test_few_complaints_are_listed_once_each():
    assert reasons([trust(1.0, "No chain moved."), trust(2.0, "No chain moved.")]) == "No chain moved"


def test_of_many_complaints_the_readings_of_which_something_is_wanted_are_told():
    many = [trust(float(b), f"ESS {b}") for b in range(1, 8)]
    assert reasons(many) == "ESS 1 to 7 (wanted at least 400)"
    assert reasons([Trust(False, (), (f"{b}",)) for b in range(6)]) == "0; 1; 2; 3; 4; 5"


def test_without_complaints_the_readings_are_told():
    assert reasons([Trust(False, (Reading("ESS", 3.0, 4, "lower"),))]) == "ESS 3 (wanted at least 4)"
