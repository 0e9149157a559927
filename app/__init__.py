"""pain-diary: people in pain log on their phones, clinicians read an honest timeline."""

import gc

__version__ = "0.1.0"

# What imports and requests make is rarely garbage in a circle. Looking for it after every 700 objects, as Python does
# unless told otherwise, took 7 % of a start.
gc.set_threshold(50_000, 20, 20)
