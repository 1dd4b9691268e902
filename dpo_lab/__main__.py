"""`python -m dpo_lab` is `dpo-lab`."""

from __future__ import annotations

import sys

from dpo_lab.cli import main

sys.exit(main())
