"""A router's process takes what it needs of its hard limit of open files."""

import json
import subprocess
import sys

import pytest

ASK = """
import json, resource, sys
soft, hard, needed = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from radixroute.deploy.open_files import allow_files
told = allow_files(needed)
print(json.dumps([told, *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "needed", "after"),
    [(128, 512, 400, 400), (128, 256, 400, 256), (300, 512, 200, 300), (128, 128, 400, 128)],
)
def test_the_limit_is_raised_to_what_is_needed_and_may_be(soft, hard, needed, after):
    command = [sys.executable, "-c", ASK, *map(str, (soft, hard, needed))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(said) == [after, after, hard]
