import pytest

from dynbackbones.backbones.sar.schedules import scheduled_target, scheduled_temperature


def test_ramp_starts_at_1_and_reaches_the_target_at_half_in_three_equal_steps():
    values = [scheduled_target(0.4, i / 60, "ramp") for i in range(61)]
    assert values[0] == values[9] == 1.0
    assert values[10] == values[19] == pytest.approx(0.8)
    assert values[20] == values[29] == pytest.approx(0.6)
    assert values[30] == values[60] == pytest.approx(0.4)


def test_constant_is_constant():
    assert {scheduled_target(0.4, p, "constant") for p in (0, 0.3, 1)} == {0.4}


def test_jump_reaches_the_target_at_a_quarter_in_one_step():
    values = [scheduled_target(0.4, i / 60, "jump") for i in range(61)]
    assert set(values[:15]) == {1.0}
    assert set(values[15:]) == {0.4}


def test_temperature_decays_exponentially():
    assert scheduled_temperature((1.0, 0.01), 0.0) == 1.0
    assert scheduled_temperature((1.0, 0.01), 0.5) == pytest.approx(0.1)
    assert scheduled_temperature((1.0, 0.01), 1.0) == pytest.approx(0.01)
