"""`python -m jaxad NAME ...`: the command `jaxad`, where it is on no PATH or Python has to be a certain one."""

from jaxad.runs.command import main

if __name__ == "__main__":
    main()
