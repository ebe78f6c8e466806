"""`python -m signal_diffusion.cli`: the command, for launchers that start modules."""

from signal_diffusion.cli import main

if __name__ == "__main__":
    main()
