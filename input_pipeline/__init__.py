"""Films: drawing them, reading them, splitting them, and making batches.

phantom        draws films whose findings are known
tables         reads tables of text, however they were saved
radiograph     reads one film's file: PNG, JPEG or DICOM
nih_tables     the labels, boxes and lists of NIH ChestX-ray14
catalogue      joins a folder's tables and films into splits
preprocess     decodes one film file
records        stores prepared films (tfds)
prepared       the other files of a prepared set
prepare        makes a prepared set
pipeline       a prepared set as arrays, and batches of it
findings       the 14 findings and their spellings
memory         refuses what would not fit into memory
workers        processes that work beside this one
"""
