LoraWorker.main()
