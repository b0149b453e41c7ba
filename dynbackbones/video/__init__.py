"""Video: which frames a model runs on, and what is shown in between."""
