// JSONModel
