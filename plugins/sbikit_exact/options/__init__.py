"""Options of the samplers; `shared` holds what chains have in common. None of these loads torch."""
