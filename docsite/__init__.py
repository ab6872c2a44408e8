"""The documentation site: the pages of this repository put together, and those that are made from the code.

For people who build it (`python -m docsite`); nothing of it is in the wheel. What is said lies in docs/.
"""
