from dynbackbones.errors import UserError


def test_a_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)
