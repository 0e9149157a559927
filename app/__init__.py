"""pain-diary: people in pain log on their phones, clinicians read an honest timeline."""

__version__ = "0.1.0"
