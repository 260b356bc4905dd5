"""`python -m rlexp`: the command `rlexp`, which trains where no word says what to do."""

import sys

from rlexp.cli.main import main

if __name__ == "__main__":
    sys.exit(main(alone="run"))
