print("loraq")
