"""What surrounds this product, checked: one file a subject, each of whose checks says what to do about a fault."""
