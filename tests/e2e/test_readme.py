"""The purchase of each README works as pasted, line by line."""

import re
import subprocess
from urllib.parse import urlsplit

import pytest

from tests.e2e.suite import REPOSITORY, Suite

# The first two lines find a shop that runs in this folder; the tests' own runs elsewhere.
FINDS_THE_SHOP = ". ./.env\nSHOP=$(make -s url)\n"


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_purchase_works_as_pasted(running_suite: Suite, readme: str) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / readme).read_text(), re.S)
    [purchase] = [block for block in blocks if block.startswith(FINDS_THE_SHOP)]
    settings = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "SHOP": running_suite.url,
        "ADMIN_USERNAME": running_suite.env["ADMIN_USERNAME"],
        "ADMIN_PASSWORD": running_suite.env["ADMIN_PASSWORD"],
        "MAIL_PORT": str(urlsplit(running_suite.mail_url).port),
    }
    done = subprocess.run(
        ["bash", "-ec", purchase.removeprefix(FINDS_THE_SHOP)],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert '"type":"order.created"' in done.stdout
    assert '"type":"order.paid"' in done.stdout
    assert '"subject":' in done.stdout
