"""The version of this package, spelled once."""

VERSION = "0.1.0"
