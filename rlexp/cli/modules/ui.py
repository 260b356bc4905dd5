import sys

from rlexp.cli.ui import main

if __name__ == "__main__":
    sys.exit(main())
