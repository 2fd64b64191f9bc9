"""The `asr` command: options, help and error messages of each verb; the algorithms are in the rooms below."""
