"""``python -m condgen`` is the ``condgen`` command."""

from condgen.cli import main

if __name__ == "__main__":
    main()
