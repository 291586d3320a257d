// LoraqClient: see docs/architecture.md
