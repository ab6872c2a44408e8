"""Other servers people would pick instead, measured beside the product by one load generator: ``make peers``."""
