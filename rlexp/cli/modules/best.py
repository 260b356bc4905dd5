import sys

from rlexp.cli.best import main

if __name__ == "__main__":
    sys.exit(main())
