"""`python -m evlift` is the command `evlift`."""

import sys

from evlift.cli import main

sys.exit(main())
