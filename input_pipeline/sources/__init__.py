"""The layouts that folders of films come in, one module each.

by_name       finds a layout by the name that config.data.source gives
film_table    the form that every layout is turned into
table         films.csv, and what may lie beside it
"""
