"""``python -m tracemend``, so that launchers which start modules can start it."""

from tracemend.cli import main

if __name__ == "__main__":
    main()
