"""Files: results, matrices, shards. What comes in is looked at before anything is computed with it."""
