"""Where images come from: a name in `configs/sources.yaml` becomes `data/raw/<name>/`. Does not read labels."""
