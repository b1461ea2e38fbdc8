"""Short digests of what is kept on disk: they must not change from one version to the next."""

from __future__ import annotations

import hashlib

from anytalker.hashing import ShortDigest, file_digest, short_digest


def test_digests_are_the_first_digits_of_sha256(tmp_path) -> None:
    assert short_digest("talk") == hashlib.sha256(b"talk").hexdigest()[:16]
    assert short_digest("ta", b"lk") == str(ShortDigest([memoryview(b"talk")])) == short_digest("talk")
    assert short_digest("talk.") != short_digest("talk")
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()
