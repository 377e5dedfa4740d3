"""How the tests check annotations."""

from beartype import BeartypeConf, beartype

# PEP 484: an int is welcome where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
