"""The `asr` command: one verb a stage, and no algorithm here."""
