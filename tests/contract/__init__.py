"""Contracts, each as a class of checks that every implementation's test module subclasses."""

import pytest

pytest.register_assert_rewrite("tests.contract.suite", "tests.contract.world")
