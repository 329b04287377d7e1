"""python -m scopegym.experiments.cli"""

from scopegym.experiments.cli import main

if __name__ == "__main__":
    main()
