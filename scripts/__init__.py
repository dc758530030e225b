"""Small programs of the project's workflows."""
