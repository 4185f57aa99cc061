"""`python -m minimind` is the same as `minimind`."""

import sys

from minimind.cli import main

sys.exit(main())
