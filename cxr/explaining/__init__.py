"""What a trained network says of films of the user's own.

Films are read by input_pipeline.radiograph. Scripts that were written before
preparation read films by it as well find it here under its name.
"""

from input_pipeline.radiograph import radiograph as radiograph
