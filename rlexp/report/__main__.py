import sys

from rlexp.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
