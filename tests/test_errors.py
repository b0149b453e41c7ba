from dynbackbones.errors import UserError, mistake_in


def test_a_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)


def test_a_mistake_is_found_in_a_traceback():
    mistake = "Traceback ...\ndynbackbones.errors.UserError: image a.jpg is truncated\n\n"
    assert mistake_in(mistake) == "image a.jpg is truncated"
    assert mistake_in("Traceback ...\nbuiltins.ValueError: a defect\n") is None
    assert mistake_in("") is None
