"""One film's file (PNG, JPEG, DICOM) as an upright gray image, or a refusal."""
