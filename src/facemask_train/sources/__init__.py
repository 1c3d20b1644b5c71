"""Where images come from: a name in `configs/sources.yaml` becomes `data/raw/<name>/`. Knows no labels."""
