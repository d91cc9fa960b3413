"""Every method from scratch: one file each, plain torch, read from top to bottom in one sitting.

`lora` is the one to start with. These files are for reading: they import nothing of PEFT Lab, and the lab shows them on
its *Export* tabs. tests/scratch trains each beside the lab's own code.
"""
