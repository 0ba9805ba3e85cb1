"""`python -m edgecoder` is the command `edgecoder`."""

from edgecoder.cli.app import main

if __name__ == "__main__":
    main()
