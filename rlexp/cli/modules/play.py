import sys

from rlexp.cli.play import main

if __name__ == "__main__":
    sys.exit(main())
