"""The layouts that folders of films come in, one module each.

by_name       finds a layout by the name that config.data.source gives
film_table    the form that every layout is turned into
table         films.csv, and what may lie beside it
nih           NIH ChestX-ray14, and the phantom
chexpert, vindr, rsna, mimic, padchest    as these data sets are downloaded
places        where a download's tables and films lie
cells         what a cell of a table says
search        pictures that lie where nobody looks for them, in words
"""
