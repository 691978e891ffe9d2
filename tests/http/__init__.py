"""The HTTP side. Its helper's assertions say what they compared, as those of tests do."""

import pytest

pytest.register_assert_rewrite("tests.support.asking")
