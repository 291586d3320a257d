print("loraqd")
