"""Many recordings at once, on the processes of one machine or on a cluster: `asr batch`.

    INPUT ─ inputs ─▶ items ─ plan ─▶ shards of groups ─ local, on_ray: worker ─▶ rows ─ run: parts ─▶ a file a shard

The plan is written first and never changes. A shard is done when its file is there. What was killed goes on with the
shards that are not done, and ends with the same rows.
"""
