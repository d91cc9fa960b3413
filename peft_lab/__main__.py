"""``python -m peft_lab``: the app without the browser. See :mod:`peft_lab.cli`."""

from peft_lab.cli import main

if __name__ == "__main__":
    main()
