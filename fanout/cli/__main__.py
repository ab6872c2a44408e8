"""``python -m fanout.cli``: the ``fanout`` command where its script is not on the path."""

from fanout.cli import main

if __name__ == "__main__":
    main()
