"""The server of `asr serve`: an HTTP and WebSocket interface to recognition, and a page that uses it.

    request ─ Guard ─ forms ─▶ Job ─ Pool ─▶ worker process: decode, recognise, write ─▶ answer

The server itself decodes no recording. What a client sends is opened by worker processes only, which have limits of
memory and time and can be killed.
"""
