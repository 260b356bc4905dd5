import sys

from rlexp.cli.sync import main

if __name__ == "__main__":
    sys.exit(main())
