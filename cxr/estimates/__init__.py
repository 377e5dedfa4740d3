"""The tables of an evaluated run, read and checked, and what follows from them.

Neither a model nor JAX is needed: --mode=report starts here.
"""
