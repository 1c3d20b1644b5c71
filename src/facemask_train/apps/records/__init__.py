"""The JSON records of predict, survey and export. They lie below the report pages, which read them."""
