"""The PEFT worker of loraq: the kinds of the native worker, computed by transformers and PEFT."""

__version__ = "0.1.0"
