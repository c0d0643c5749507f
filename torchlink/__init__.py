"""torchlink: find libtorch, work out the words to build against it, prove them."""

__version__ = "0.1.0"
