"""``python -m discern``: see ``discern.cli``."""

import sys

from discern.cli import main

sys.exit(main())
