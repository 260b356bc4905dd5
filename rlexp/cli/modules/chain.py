import sys

from rlexp.cli.chain import main

if __name__ == "__main__":
    sys.exit(main())
