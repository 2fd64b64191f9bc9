from asr.core import files


def test_parts_of_a_hash_are_told_apart():
    hashes = {files.digest(parts) for parts in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [])}
    assert len(hashes) == 5
