import sys

from rlexp.cli.ls import main

if __name__ == "__main__":
    sys.exit(main())
