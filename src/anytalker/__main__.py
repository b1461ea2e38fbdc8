"""`python -m anytalker` is the command line."""

from anytalker.cli import main

if __name__ == "__main__":
    main()
