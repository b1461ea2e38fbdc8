"""Who says what when, as data: from scripts, recordings and files, to one recording a person."""
