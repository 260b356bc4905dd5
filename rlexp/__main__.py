"""`python -m rlexp`: the command `rlexp`."""

from rlexp.cli.run import main

if __name__ == "__main__":
    main()
