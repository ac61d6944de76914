import subprocess
import sys

import pytest

import withhold


def in_a_fresh_interpreter(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_public_names_are_few_and_all_there() -> None:
    assert len(withhold.__all__) <= 10
    for name in withhold.__all__:
        assert getattr(withhold, name) is not None
    assert set(withhold.__all__) <= set(dir(withhold))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'withhold' has no attribute 'protekt'"):
        withhold.protekt  # noqa: B018


def test_importing_withhold_does_not_import_torch() -> None:
    assert in_a_fresh_interpreter("import sys, withhold; print('torch' in sys.modules, 'numpy' in sys.modules)") == (
        "False False\n"
    )


def test_settings_and_errors_need_no_torch() -> None:
    names = "EvaluateSettings, ProtectSettings, WithholdError"
    code = f"import sys; from withhold import {names}; print('torch' in sys.modules)"
    assert in_a_fresh_interpreter(code) == "False\n"


def test_craft_is_the_tensor_package_whatever_was_imported_before() -> None:
    code = "import withhold.craft.loop; from withhold import craft; print(craft.craft.__name__, craft.Linf.__name__)"
    assert in_a_fresh_interpreter(code) == "craft Linf\n"


def test_evaluate_is_the_function_whatever_was_imported_before() -> None:
    code = "import withhold.evaluation.run; from withhold import evaluate; print(evaluate.__module__)"
    assert in_a_fresh_interpreter(code) == "withhold.evaluation.run\n"
