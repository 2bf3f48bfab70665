"""`python -m labelrel`, the same as `labelrel`; launchers of several processes start it so."""

import labelrel.cli  # registers the commands
from labelrel.cli_common import app

__all__ = ["labelrel"]

if __name__ == "__main__":
    app(prog_name="labelrel")
