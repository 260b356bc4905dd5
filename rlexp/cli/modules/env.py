import sys

from rlexp.cli.env import main

if __name__ == "__main__":
    sys.exit(main())
