"""`python -m ddim`, the same as `ddim`."""

from ddim.cli import main

if __name__ == "__main__":
    main()
