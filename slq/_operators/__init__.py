"""What slq multiplies by: any object that shall stand for a symmetric matrix, and operators made of others."""
