"""Films: drawing them, reading them, splitting them, and making batches.

phantom        draws films whose findings are known
tables         reads tables of text, however they were saved
radiograph     reads one film's file: PNG, JPEG or DICOM
sources        reads the tables of a folder, whatever its layout
synonyms       reads a user's own names of findings
catalogue      divides the films of a folder into splits
preprocess     makes a square of one film's file
placement      where a film and its regions lie in that square
run_lengths    masks as COCO and CheXlocalize write them
records        stores prepared films (tfds)
prepared       the other files of a prepared set
prepare        makes a prepared set
pipeline       a prepared set as arrays, and batches of it
findings       names of findings, and which of them mean the same
memory         refuses what would not fit into memory
workers        processes that work beside this one
"""
