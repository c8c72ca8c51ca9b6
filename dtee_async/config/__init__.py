"""Jobs files and Procfiles: from text to JobSpecs."""
