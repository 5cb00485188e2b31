"""Products with the matrix of a batch, by whichever way is fastest here."""
