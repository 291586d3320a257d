print("lora-worker")
